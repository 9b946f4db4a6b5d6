//go:build race

package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// one is locked while a bubble runs: of two that overlap, the first to end would give the other
// more processors, and the last would restore 1.
var one sync.Mutex

// Test is [synctest.Test] with one processor, and without any other bubble.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	one.Lock()
	defer one.Unlock()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, f)
}
