package engine

import (
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// clockSlack is how much more time than has passed here the store's clock may show.
const clockSlack = time.Second

// storeClock compares the store's clock, at each look at it, with the server's monotonic one. After
// a step of the former, or a sleep of the machine, which the latter does not count, clients get the
// time to renew before leased locks are swept. A server that starts knows nothing of the past, so
// it begins as after a step.
type storeClock struct {
	shown  time.Time // by the store's clock at the last look; zero: there was none
	began  time.Time // when that look began
	steady time.Time // since when the two have kept pace
}

// limits returns the limits of a look that begins now, but for the grace.
func (c *storeClock) limits(now time.Time) store.Limits {
	if c.shown.IsZero() {
		return store.Limits{}
	}
	return store.Limits{Latest: c.latest(now), Steady: now.Sub(c.steady)}
}

// looked records a look and what the store's clock showed between its begin and its end.
func (c *storeClock) looked(began, ended, shown time.Time) {
	if c.shown.IsZero() || shown.After(c.latest(ended)) {
		c.steady = ended
	}
	c.shown, c.began = shown, began
}

// latest returns the latest that the store's clock can show now.
func (c *storeClock) latest(now time.Time) time.Time {
	return c.shown.Add(now.Sub(c.began) + clockSlack)
}
