//go:build linux

package soak

import (
	"flag"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
)

// length is how long the faults last on each store.
var length = flag.Duration("soak", 15*time.Second,
	"how long TestSoak has faults happen, on each store")

// patience bounds what takes far less on any machine that works: what is not done
// by then hangs.
const patience = 90 * time.Second

var postgres pgtest.Cluster

// TestMain runs the tests or, in the processes that they start, a worker.
func TestMain(m *testing.M) {
	if config := os.Getenv(workerEnv); config != "" {
		os.Exit(workerMain(config))
	}
	goleak.VerifyTestMain(postgres.Main(m))
}
