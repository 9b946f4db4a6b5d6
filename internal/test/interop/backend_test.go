package interop

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// backend is a relukko serve.
type backend struct{ url, key string }

// build builds the command, and returns its path.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "relukko")
	out, err := exec.Command("go", "build", "-o", binary, "../../../cmd/relukko").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

// withKeysFile runs f with the key of RELUKKO_API_KEY beside a file of keys, and with a user's key
// of that file.
func withKeysFile(t *testing.T, f func(t *testing.T, b backend)) {
	binary, file := build(t), filepath.Join(t.TempDir(), "keys")
	made, err := exec.Command(binary, "key", "new", "python", "--role", "user", "--file", file).
		Output()
	require.NoError(t, err)
	for name, key := range map[string]string{
		"a key beside the file": "", "a user's key": strings.TrimSpace(string(made)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := "bolt:" + filepath.Join(t.TempDir(), "locks.db")
			b := serve(t, binary, store, "--keys", file)
			if key != "" {
				b.key = key
			}
			f(t, b)
		})
	}
}

// onEachStore runs f against a relukko serve on bbolt and on PostgreSQL.
func onEachStore(t *testing.T, f func(t *testing.T, b backend)) {
	binary := build(t)
	for _, store := range []struct {
		name string
		url  func(t *testing.T) string
	}{
		{"bbolt", func(t *testing.T) string {
			return "bolt:" +
				filepath.Join(t.TempDir(), "locks.db")
		}},
		{"PostgreSQL", func(t *testing.T) string { return postgres.Database(t) }},
	} {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			f(t, serve(t, binary, store.url(t)))
		})
	}
}

var listening = regexp.MustCompile(`https?://[0-9.:]+`)

// serve starts a relukko serve, which ends with the test.
func serve(t *testing.T, binary, store string, flags ...string) backend {
	t.Helper()
	b := backend{key: "interop-key"}
	cmd := exec.Command(binary, append([]string{"serve", "--addr", "127.0.0.1:0", "--store", store},
		flags...)...)
	cmd.Env = append(os.Environ(), "RELUKKO_API_KEY="+b.key)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	require.True(t, lines.Scan(), "serve said nothing")
	b.url = listening.FindString(lines.Text())
	require.NotEmpty(t, b.url, "the first line says where it listens: %s", lines.Text())
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return b
}
