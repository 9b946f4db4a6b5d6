package clock

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at returns an instant by what the two clocks say.
func at(mono, wall time.Duration) Instant {
	return Instant{time.Unix(0, 0).Add(mono), time.Unix(1_000_000, 0).Add(wall)}
}

func TestInstants(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name    string
		a, b    Instant
		sub     time.Duration // a − b
		earlier Instant
	}{
		{"the same", at(s, s), at(s, s), 0, at(s, s)},
		{"later", at(3*s, 3*s), at(s, s), 2 * s, at(s, s)},
		{"earlier", at(s, s), at(3*s, 3*s), -2 * s, at(s, s)},
		{"suspended for 5 s", at(3*s, 8*s), at(s, s), 2 * s, at(s, s)},
		{"the wall clock was set back", at(3*s, -5*s), at(s, s), -6 * s, at(s, -5*s)},
		{"the wall clock stood", at(3*s, s), at(s, s), 0, at(s, s)},
		{"each is earlier on one clock", at(s, 9*s), at(3*s, 2*s), -2 * s, at(s, 2*s)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.sub, tt.a.Sub(tt.b))
			require.Equal(t, tt.earlier, tt.a.Earlier(tt.b))
			require.Equal(t, tt.earlier, tt.b.Earlier(tt.a))
			require.Equal(t, tt.sub+s, tt.a.Add(s).Sub(tt.b))
			require.Equal(t, tt.sub+s, tt.a.Sub(tt.b.Add(-s)))
		})
	}
}

func TestZeroInstant(t *testing.T) {
	require.True(t, Instant{}.IsZero())
	require.False(t, at(0, 0).IsZero())
	require.Equal(t, time.Unix(3, 0), at(3*time.Second, time.Hour).Time())
}

func TestNowReadsBothClocks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var c Clock
		before := c.Now()
		c.Ahead.Store(int64(time.Hour))
		time.Sleep(time.Second)
		now := c.Now()
		require.Equal(t, time.Second, now.mono.Sub(before.mono))
		require.Equal(t, time.Hour+time.Second, now.wall.Sub(before.wall))
		require.Equal(t, time.Second, now.Sub(before), "the clock that says less")
		require.Equal(t, time.Now(), now.Time())
	})
}

func TestOnJump(t *testing.T) {
	for name, tt := range map[string]struct {
		steps []time.Duration // of the wall clock, one each second
		want  int64
	}{
		"none":                       {nil, 0},
		"a small one":                {[]time.Duration{jump}, 0},
		"one":                        {[]time.Duration{jump + 1}, 1},
		"a suspend":                  {[]time.Duration{time.Hour}, 1},
		"set back":                   {[]time.Duration{-time.Hour}, 0},
		"set back, and forward":      {[]time.Duration{-time.Hour, time.Hour}, 1},
		"two":                        {[]time.Duration{time.Second, 0, time.Second}, 2},
		"a drift that is never fast": {[]time.Duration{jump, jump, jump, jump, jump, jump}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var c Clock
				var told, other atomic.Int64
				stop := c.OnJump(func() { told.Add(1) })
				stopOther := c.OnJump(func() { other.Add(1) })
				time.Sleep(checkEvery / 2)
				for _, d := range tt.steps {
					c.Ahead.Add(int64(d))
					time.Sleep(checkEvery)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Equal(t, tt.want, told.Load())
				require.Equal(t, tt.want, other.Load())

				stopOther()
				c.Ahead.Add(int64(time.Minute))
				time.Sleep(checkEvery)
				synctest.Wait()
				require.Equal(t, tt.want+1, told.Load())
				require.Equal(t, tt.want, other.Load(), "it is stopped")
				stop()
			})
		})
	}
}

func TestJumpIsToldWithinASecond(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var c Clock
		told := make(chan time.Time, 1)
		defer c.OnJump(func() { told <- time.Now() })()
		time.Sleep(10*time.Second + 1)
		c.Ahead.Add(int64(time.Minute))
		began := time.Now()
		require.LessOrEqual(t, (<-told).Sub(began), time.Second)
	})
}

func TestClockHasATimerOnlyWhileItIsWatched(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var c Clock
		told := 0
		require.Nil(t, c.tick)
		a, b := c.OnJump(func() { told++ }), c.OnJump(func() { told++ })
		a()
		a() // further calls do nothing
		require.NotNil(t, c.tick)
		time.Sleep(10*time.Second + 1)
		synctest.Wait()
		b()
		require.Nil(t, c.tick)
		b()
		c.check() // one that was due when the timer was stopped

		c.Ahead.Add(int64(time.Hour)) // while nobody watches
		defer c.OnJump(func() { told++ })()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Zero(t, told)
	})
}

func TestTimerOfAnEarlierWatchIsStopped(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var c Clock
		stop := c.OnJump(func() {})
		time.Sleep(checkEvery / 2)
		stop()
		began, told := time.Now(), make(chan time.Time, 1)
		defer c.OnJump(func() { told <- time.Now() })()
		time.Sleep(checkEvery * 3 / 4) // past the end of the first timer
		c.Ahead.Add(int64(time.Minute))
		require.Equal(t, began.Add(checkEvery), <-told)
	})
}
