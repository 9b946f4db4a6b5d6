package relukko

import "time"

// instant is one moment read off both clocks. The monotonic one stands still
// while a machine is suspended, the wall clock can be set; time that has passed
// on either of them has passed.
type instant struct{ mono, wall time.Time }

func (i instant) add(d time.Duration) instant { return instant{i.mono.Add(d), i.wall.Add(d)} }

// earlier is, on each clock, the earlier of the two.
func (i instant) earlier(j instant) instant {
	if j.mono.Before(i.mono) {
		i.mono = j.mono
	}
	if j.wall.Before(i.wall) {
		i.wall = j.wall
	}
	return i
}

// sub returns how long before i the moment now is, by the clock that leaves less.
func (i instant) sub(now instant) time.Duration {
	return min(i.mono.Sub(now.mono), i.wall.Sub(now.wall))
}

// bothClocks reads the system's clocks. Tests put another in its place.
func bothClocks() instant {
	now := time.Now()
	return instant{now, now.Round(0)}
}
