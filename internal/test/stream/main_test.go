//go:build linux

package stream

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/overlap"
	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
)

var full = flag.Bool("full", false, "run with the numbers and times of docs/testing.md")

// scaled returns the first number, or with -full the second.
func scaled[T any](normal, whole T) T {
	if *full {
		return whole
	}
	return normal
}

// parallel runs a test in parallel with others, but not with -full.
func parallel(t *testing.T) {
	if !*full {
		t.Parallel()
	}
}

const (
	apiKey   = "stream-test"
	patience = time.Minute // for what takes far less unless it hangs
)

var postgres pgtest.Cluster

// TestMain runs the tests or, in the processes that they start, a worker.
func TestMain(m *testing.M) {
	if config := os.Getenv(workerEnv); config != "" {
		os.Exit(workerMain(config))
	}
	overlap.Tests("16")
	goleak.VerifyTestMain(postgres.Main(m), goleak.Cleanup(func(code int) {
		os.RemoveAll(programDir)
		os.Exit(code)
	}))
}

var programDir string

// program returns the path of the real binary, which is built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "relukko-stream-")
	if err != nil {
		return "", err
	}
	programDir = dir
	path := filepath.Join(dir, "relukko")
	out, err := exec.Command("go", "build", "-o", path, "../../../cmd/relukko").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// newClient returns a client that is closed at the end of the test.
func newClient(t testing.TB, url string) *api.Client {
	t.Helper()
	c, err := api.New(url, apiKey)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			t.Errorf("closing a client: %v", err)
		}
	})
	return c
}

// pause waits for d.
func pause(d time.Duration) { <-time.After(d) }
