package cli

import (
	"crypto/sha256"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/access"
)

func TestKeyNew(t *testing.T) {
	t.Parallel()
	status, secret, stderr := run(t, nil, "key", "new")
	require.Zero(t, status)
	require.Regexp(t, `^[0-9a-f]{64}\n$`, secret)
	require.Empty(t, stderr)

	status, secret, stderr = run(t, nil, "key", "new", "ada", "--role", "user",
		"--pattern", "bench-*", "--pattern", "lab")
	require.Zero(t, status, stderr)
	require.Regexp(t, `^[0-9a-f]{64}\n$`, secret)
	said, line, _ := strings.Cut(stderr, "\n")
	require.Equal(t, "relukko: the line for the file of relukko serve --keys:", said)
	keys, err := access.Parse(strings.NewReader(line))
	require.NoError(t, err)
	require.Equal(t, []access.Key{{Name: "ada", Role: access.User,
		Patterns: []string{"bench-*", "lab"},
		Hash:     sha256.Sum256([]byte(strings.TrimSpace(secret)))}}, keys)
}

func TestKeyNewInAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "keys")
	add := func(args ...string) (int, string, string) {
		return run(t, nil, append([]string{"key", "new", "--file", file}, args...)...)
	}
	status, first, stderr := add("ada", "--role", "user")
	require.Zero(t, status, stderr)
	require.Empty(t, stderr)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	require.NoError(t, os.WriteFile(file, append(read(t, file), "# a comment"...), 0o640))
	require.NoError(t, os.Chmod(file, 0o640))
	status, second, stderr := add("ada", "--role", "admin")
	require.Zero(t, status, stderr)
	keys, err := readKeysFile(file)
	require.NoError(t, err)
	require.Len(t, keys, 2)
	for i, secret := range []string{first, second} {
		require.Equal(t, sha256.Sum256([]byte(strings.TrimSpace(secret))), keys[i].Hash)
	}
	info, err = os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o640), info.Mode(), "its mode stays")

	for name, row := range map[string]struct {
		content string
		mode    fs.FileMode
		says    string
	}{
		"a fault":      {"ada root x\n", 0o600, `line 1: "root" is no role`},
		"open to all":  {"", 0o602, "every user may write to it: chmod o-w"},
		"enormous":     {strings.Repeat("#", maxKeysFile+1), 0o600, "it is larger than 16 MiB"},
		"a whole line": {strings.Repeat("#", 70_000), 0o600, "line 1: it is longer than 64 KiB"},
	} {
		require.NoError(t, os.WriteFile(file, []byte(row.content), 0o600))
		require.NoError(t, os.Chmod(file, row.mode))
		status, stdout, stderr := add("bob", "--role", "user")
		require.Equal(t, statusFailed, status, name)
		require.Empty(t, stdout, "a key that is in no file is not printed")
		require.Contains(t, stderr, row.says)
		require.Equal(t, row.content, string(read(t, file)), "it is as it was")
	}
	_, err = readKeysFile(t.TempDir())
	require.ErrorContains(t, err, "it is no regular file", "nor may it be a pipe, which blocks")
}

func TestKeyNewIsRefused(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"key":                                  "an argument is missing: relukko key new",
		"key old":                              `there is no "key old": relukko key new`,
		"key new a b":                          `there is no argument "b": relukko key new`,
		"key new ada":                          "--role is missing: viewer, user or admin",
		"key new ada --role root":              `--role: "root" is no role`,
		"key new --role user":                  "are for a key with a name: relukko key new NAME",
		"key new a:b --role user":              `"a:b" is no name of a key: it has 1 to 64 of`,
		"key new a --role user --pattern":      "flag needs an argument",
		"key new a --role user --pattern #x":   `"#x" is no pattern`,
		"key new a --role viewer --pattern x*": "a viewer has no patterns",
	} {
		status, stdout, stderr := run(t, nil, strings.Fields(args)...)
		require.Equal(t, statusUsage, status, args)
		require.Empty(t, stdout)
		require.Contains(t, stderr, says)
	}
	status, _, stderr := run(t, nil, "key", "new", "a", "--role", "user", "--pattern", "a b")
	require.Equal(t, statusUsage, status)
	require.Contains(t, stderr, `"a b" is no pattern: it has no white space`)
}

// A server does not start with a faulty file, nor where a key would have two sets of rights.
func TestServeRefusesKeys(t *testing.T) {
	t.Parallel()
	key := access.Admins("secret")[0]
	key.Name, key.Role = "ada", access.User
	for name, row := range map[string]struct{ content, says string }{
		"faulty":  {"ada", "line 1: a key has a name"},
		"no key":  {"# none\n", "there is no key in it"},
		"in both": {key.String(), `the key "ada" is also given by --api-key-file or `},
	} {
		file := filepath.Join(t.TempDir(), "keys")
		require.NoError(t, os.WriteFile(file, []byte(row.content), 0o600))
		p := &program{Invocation: Invocation{Env: []string{envKey + "=secret"}}}
		_, err := p.serverKeys(&net.TCPAddr{}, file)
		require.ErrorContains(t, err, "--keys: "+file+": ", name)
		require.ErrorContains(t, err, row.says)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return content
}

// A file of hashes that is given for a file of keys would make a key of each line, for all who may
// read it.
func TestServeRefusesHashesAsKeys(t *testing.T) {
	t.Parallel()
	key := access.Admins("secret")[0]
	key.Patterns = []string{"bench-*", "lab"}
	file := filepath.Join(t.TempDir(), "keys")
	content := "# name role hash\n" + key.String() + "\n"
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	p := &program{Invocation: Invocation{Env: []string{envKeyFile + "=" + file}}}
	_, err := p.serverKeys(&net.TCPAddr{}, "")
	require.ErrorContains(t, err, `the line of the key "default" of a file of --keys`)
}
