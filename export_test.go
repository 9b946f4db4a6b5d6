package relukko

import (
	"sync/atomic"

	"gitlab.com/relukko/relukko-go/api"
)

// Skew lets a test set c's wall clock ahead of the monotonic one, as a suspend
// does. Call it before the client has a lock.
func Skew(c *api.Client) (ahead *atomic.Int64) {
	return &NewMutex(c, "any").driver.Clock().Ahead
}
