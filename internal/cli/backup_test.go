package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

// backedUp returns the path of a backup of a server with two locks.
func backedUp(t testing.TB) string {
	t.Helper()
	s, _ := locked(t, "arm", "leg")
	file := filepath.Join(t.TempDir(), "backup")
	status, stdout, stderr := run(t, of(s), "backup", file)
	require.Zero(t, status, stderr)
	require.Empty(t, stdout)
	require.Regexp(t, `^relukko: backed up 2 locks, 0 cancelled marks and a history of 0, `+
		`as they were at \S+: \d+ bytes\n$`, stderr)
	return file
}

func TestBackupVerifyRestore(t *testing.T) {
	file := backedUp(t)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	files, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, files, 1, "nothing is left beside it")

	status, stdout, stderr := run(t, nil, "verify", file)
	require.Zero(t, status, stderr)
	require.Regexp(t, `^\S+/backup is whole: 2 locks, 0 cancelled marks and a history of 0`, stdout)

	path := filepath.Join(t.TempDir(), "locks.db")
	status, stdout, stderr = run(t, nil, "restore", file, "--to", "bolt:"+path)
	require.Zero(t, status, stderr)
	require.Contains(t, stdout, "bolt:"+path+" has 2 locks, ")
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	status, _, stderr = run(t, nil, "restore", file, "--to", "bolt:"+path)
	require.Equal(t, statusFailed, status)
	require.Contains(t, stderr, "there is a file already, and it was left as it is")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// TestBackupToStdout can be read from stdin.
func TestBackupToStdout(t *testing.T) {
	s, _ := locked(t, "arm")
	status, stdout, stderr := run(t, of(s), "backup", "-")
	require.Zero(t, status, stderr)
	piped := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		status := Run(Invocation{Args: args, Env: []string{"HOME=" + t.TempDir()},
			Stdin: strings.NewReader(stdout), Stdout: &out, Stderr: &errs})
		return status, out.String(), errs.String()
	}
	status, said, stderr := piped("verify", "-")
	require.Zero(t, status, stderr)
	require.Contains(t, said, "stdin is whole: 1 locks")
	path := filepath.Join(t.TempDir(), "locks.db")
	status, _, stderr = piped("restore", "-", "--to", "bolt:"+path)
	require.Zero(t, status, stderr)
	require.FileExists(t, path)
}

// TestADamagedBackup is refused, with the place, and nothing is restored.
func TestADamagedBackup(t *testing.T) {
	whole, err := os.ReadFile(backedUp(t))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "locks.db")
	refused := func(content []byte, want string) {
		t.Helper()
		file := writeFile(t, "backup", string(content))
		for _, args := range [][]string{
			{"verify", file}, {"restore", file, "--to", "bolt:" + path},
		} {
			status, stdout, stderr := run(t, nil, args...)
			require.Equal(t, statusFailed, status, args)
			require.Empty(t, stdout)
			require.Contains(t, stderr, "relukko: "+file+": ")
			require.Contains(t, stderr, want)
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
		}
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 0x20
		refused(damaged, "the backup ")
	}
	refused(whole[:len(whole)-1], "the backup is cut short: it ends within the part that begins "+
		"at byte ")
	refused([]byte("something else"), "the backup does not begin as one of relukko does")
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, files)
}

// TestBackupsThatFail leave the backup before them as it was.
func TestBackupsThatFail(t *testing.T) {
	s := relukkotest.NewServer(t)
	file := writeFile(t, "backup", "an older one")
	status, _, stderr := run(t, []string{envURL + "=" + s.URL, envKey + "=wrong"}, "backup", file)
	require.Equal(t, statusUnavailable, status)
	require.Contains(t, stderr, "does not let this API key take a backup")
	nobody := []string{envURL + "=http://127.0.0.1:1", envKey + "=key"}
	status, _, stderr = run(t, nobody, "backup", file)
	require.Equal(t, statusUnavailable, status)
	require.Contains(t, stderr, "connection refused")
	files, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, files, 1)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "an older one", string(content))
}

func TestBackupUsage(t *testing.T) {
	file := backedUp(t)
	missing := filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		status int
		want   string
		args   []string
	}{
		{statusUsage, "an argument is missing: relukko backup FILE", []string{"backup"}},
		{statusUsage, "is not a file: it would be replaced", []string{"backup", os.DevNull}},
		{statusFailed, "no such file or directory", []string{"backup", missing + "/backup"}},
		{statusFailed, "no such file or directory", []string{"verify", missing}},
		{statusUsage, "--to: give bolt:PATH or postgres://…", []string{"restore", file}},
		{statusUsage, "--to: give bolt:PATH or postgres://…",
			[]string{"restore", file, "--to", "memory"}},
		{statusUsage, "--from: give bolt:PATH or postgres://…",
			[]string{"move", "--to", "bolt:" + missing}},
		{statusUsage, "--from and --to are the same store",
			[]string{"move", "--from", "bolt:x", "--to", "bolt:x"}},
		{statusFailed, "no such file or directory",
			[]string{"move", "--from", "bolt:" + missing, "--to", "bolt:" + missing + "2"}},
	} {
		status, _, stderr := run(t, []string{envKey + "=key"}, test.args...)
		require.Equal(t, test.status, status, test.args)
		require.Contains(t, stderr, test.want, test.args)
	}
	require.NoFileExists(t, missing)
}

// TestMoveSaysWhereTheKeyIs that the server has made.
func TestMoveSaysWhereTheKeyIs(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "old.db"), filepath.Join(dir, "new.db")
	status, _, stderr := run(t, nil, "restore", backedUp(t), "--to", "bolt:"+from)
	require.Zero(t, status, stderr)
	require.NoError(t, os.WriteFile(from+".key", []byte("key\n"), 0o600))
	status, stdout, stderr := run(t, nil, "move", "--from", "bolt:"+from, "--to", "bolt:"+to)
	require.Zero(t, status, stderr)
	require.Contains(t, stdout, "bolt:"+to+" has 2 locks, ")
	require.Contains(t, stdout, "bolt:"+from+" stays as it is: start no server on it")
	require.Equal(t, "relukko: the API key that relukko serve has made stays in "+from+".key: "+
		"a server that is to accept it needs --api-key-file "+from+".key\n", stderr)
}
