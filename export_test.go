package relukko

import (
	"sync/atomic"

	"gitlab.com/relukko/relukko-go/api"
)

// Skew returns how far c's wall clock is ahead of its monotonic clock, in ns, for a test to set, as
// a suspend does. Call it before the client holds a lock.
func Skew(c *api.Client) (ahead *atomic.Int64) {
	return &NewMutex(c, "any").driver.Clock().Ahead
}
