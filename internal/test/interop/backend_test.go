package interop

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// backend is a relukko serve.
type backend struct{ url, key string }

// onEachStore runs f against a relukko serve on bbolt and on PostgreSQL.
func onEachStore(t *testing.T, f func(t *testing.T, b backend)) {
	binary := filepath.Join(t.TempDir(), "relukko")
	out, err := exec.Command("go", "build", "-o", binary, "../../../cmd/relukko").CombinedOutput()
	require.NoError(t, err, "%s", out)
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
func serve(t *testing.T, binary, store string) backend {
	t.Helper()
	b := backend{key: "interop-key"}
	cmd := exec.Command(binary, "serve", "--addr", "127.0.0.1:0", "--store", store)
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
