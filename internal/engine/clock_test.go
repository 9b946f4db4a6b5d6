package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/store"
)

func TestStoreClock(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var c storeClock
		ahead := 7 * time.Hour // of the store's clock
		look := func(takes time.Duration) store.Limits {
			began := time.Now()
			limits := c.limits(began)
			time.Sleep(takes)
			c.looked(began, time.Now(), time.Now().Add(ahead))
			return limits
		}
		require.Zero(t, look(0), "nothing is known at the start")
		time.Sleep(10 * time.Second)
		require.Equal(t, store.Limits{
			Latest: time.Now().Add(ahead + time.Second), Steady: 10 * time.Second,
		}, look(0))

		time.Sleep(time.Hour)
		ahead += time.Second // it runs fast
		require.Equal(t, time.Hour+10*time.Second, look(0).Steady)
		time.Sleep(time.Second)
		require.Equal(t, time.Hour+11*time.Second, look(2*time.Second).Steady)
		require.Equal(t, time.Hour+13*time.Second, look(0).Steady, "a slow look is no step")

		ahead += time.Second + time.Microsecond
		require.True(t, look(0).Latest.Before(time.Now().Add(ahead)), "a step")
		time.Sleep(5 * time.Second)
		require.Equal(t, 5*time.Second, look(0).Steady)

		ahead -= time.Hour
		look(0)
		require.Equal(t, store.Limits{
			Latest: time.Now().Add(ahead + time.Second), Steady: 5 * time.Second,
		}, look(0), "set back, it counts from there")
	})
}
