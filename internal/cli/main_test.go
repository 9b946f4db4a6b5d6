package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/relukkotest"
	"gitlab.com/relukko/relukko-go/server/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what takes milliseconds unless the machine is busy.
const patience = 20 * time.Second

// run runs the program in this process.
func run(t testing.TB, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = Run(Invocation{
		Args: args, Env: append(env, "HOME="+t.TempDir()),
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
	})
	return status, out.String(), errs.String()
}

// succeeds runs the program as a client of s and returns what it printed.
func succeeds(t testing.TB, s *relukkotest.Server, args ...string) (stdout string) {
	t.Helper()
	status, stdout, stderr := run(t, of(s), args...)
	require.Zero(t, status, stderr)
	return stdout
}

// of returns the environment of a client of s.
func of(s *relukkotest.Server) []string {
	return []string{envURL + "=" + s.URL, envKey + "=" + s.APIKey}
}

// locked is a backend with some locks.
func locked(t testing.TB, names ...string) (s *relukkotest.Server, ids map[string]string) {
	t.Helper()
	s, ids = relukkotest.NewServer(t), make(map[string]string)
	for _, name := range names {
		lock, err := s.Client().Create(t.Context(), name, "Ada@bench/7 #k3v9x2m4q7ab")
		require.NoError(t, err)
		ids[name] = lock.ID
	}
	return s, ids
}

// lockOf returns the lock of that name.
func lockOf(t testing.TB, s *relukkotest.Server, name string) store.Lock {
	t.Helper()
	for _, lock := range s.Locks() {
		if lock.Name == name {
			return lock
		}
	}
	require.Fail(t, "no lock "+name)
	panic("not reached")
}

// writeFile makes a file and returns its path.
func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}
