package clock

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// An alarm is due when its last Set says so, whatever the timer that it uses was running for.
func TestAlarm(t *testing.T) {
	const s = time.Second
	for name, row := range map[string]struct {
		do   func(a Alarm)
		want []time.Duration
	}{
		"set":              {func(a Alarm) { a.Set(3 * s) }, []time.Duration{3 * s}},
		"now":              {func(a Alarm) { a.Set(0) }, []time.Duration{0}},
		"earlier than now": {func(a Alarm) { a.Set(-s) }, []time.Duration{0}},
		"not set":          {func(Alarm) {}, nil},
		"cleared":          {func(a Alarm) { a.Set(3 * s); a.Clear() }, nil},
		"cleared, set again": {func(a Alarm) {
			a.Set(3 * s)
			a.Clear()
			a.Set(5 * s)
		}, []time.Duration{5 * s}},
		"later":   {func(a Alarm) { a.Set(3 * s); a.Set(5 * s) }, []time.Duration{5 * s}},
		"earlier": {func(a Alarm) { a.Set(5 * s); a.Set(3 * s) }, []time.Duration{3 * s}},
		"freed": {func(a Alarm) {
			a.Set(3 * s)
			a.Free()
			a.Set(4 * s)
			a.Clear()
			a.Free()
		}, nil},
		"moved on and on": {func(a Alarm) {
			for range 5 {
				a.Set(3 * s)
				time.Sleep(2 * s)
			}
		}, []time.Duration{11 * s}},
		"cleared on time": {func(a Alarm) {
			a.Set(3 * s)
			time.Sleep(2 * s)
			a.Clear()
		}, nil},
		"twice": {func(a Alarm) {
			a.Set(3 * s)
			time.Sleep(4 * s)
			a.Set(3 * s)
		}, []time.Duration{3 * s, 7 * s}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var c Clock
				var mu sync.Mutex
				for range 3 { // the later ones use the timer of the first
					var got []time.Duration
					began := time.Now()
					a := c.Alarm(func() {
						mu.Lock()
						defer mu.Unlock()
						got = append(got, time.Since(began))
					})
					row.do(a)
					time.Sleep(time.Minute)
					synctest.Wait()
					require.Equal(t, row.want, got)
					a.Free()
					require.Len(t, c.bells.free, 1)
					c.Alarm(func() { t.Error("it was freed") }).Free() // with a timer that runs
					spare := c.Alarm(func() { t.Error("it was freed") })
					spare.Set(4 * s)
					spare.Free()
				}
			})
		})
	}
	Alarm{}.Set(0) // the zero Alarm
	Alarm{}.Clear()
	Alarm{}.Free()
}

// What is left of a freed alarm has no effect on the one that has its timer now.
func TestFreedAlarm(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var c Clock
		old := c.Alarm(func() { t.Error("it was freed") })
		old.Free()
		rang := false
		a := c.Alarm(func() { rang = true })
		require.Same(t, old.bell, a.bell)
		a.Set(time.Second)
		old.Set(0)
		old.Clear()
		old.Free()
		require.Empty(t, c.bells.free)
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, rang)
	})
}

// Timers of alarms are not set again and again, which is what alarms are for.
func TestAlarmsShareATimer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var c Clock
		var rings time.Time
		for range 900 {
			a := c.Alarm(func() { t.Error("it was freed") })
			a.Set(time.Second)
			time.Sleep(time.Millisecond)
			if rings.IsZero() {
				rings = a.bell.rings
			}
			require.Equal(t, rings, a.bell.rings)
			a.Free()
		}
		require.Len(t, c.bells.free, 1)
		var many []Alarm
		for range 2 * maxBells {
			a := c.Alarm(func() {})
			a.Set(time.Minute)
			many = append(many, a)
		}
		for i, a := range many {
			a.Free()
			require.Equal(t, i < maxBells, a.bell.timer.Stop(), "the timer runs")
		}
		require.Len(t, c.bells.free, maxBells)
	})
}

// The timer of an alarm that is due in a year, and was freed, does not run for a year: it would
// keep the memory of a client that is closed.
func TestTimersOfFreedAlarmsEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var c Clock
		began := time.Now()
		var rang time.Duration
		year := c.Alarm(func() { rang = time.Since(began) })
		year.Set(365 * 24 * time.Hour)
		freed := c.Alarm(func() { t.Error("it was freed") })
		freed.Set(365 * 24 * time.Hour)
		freed.Free()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.False(t, freed.bell.timer.Stop(), "the timer runs")
		time.Sleep(366 * 24 * time.Hour)
		synctest.Wait()
		require.Equal(t, 365*24*time.Hour, rang)
	})
}
