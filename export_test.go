package relukko

import (
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

// Skew lets a test set c's wall clock ahead of the monotonic one, as a suspend
// does. Call it before the client has a lock.
func Skew(c *api.Client) (ahead *atomic.Int64) {
	ahead = new(atomic.Int64)
	hubOf(c).now = func() instant {
		now := bothClocks()
		now.wall = now.wall.Add(time.Duration(ahead.Load()))
		return now
	}
	return ahead
}
