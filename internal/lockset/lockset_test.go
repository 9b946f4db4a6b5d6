package lockset

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// TestRecordsAreFoundByTheirMark adds and removes at random, and compares with a slice.
func TestRecordsAreFoundByTheirMark(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s := newSet()
	want := map[string][]*Record{"a": nil, "b": nil}
	remove := func(mark string, at int) {
		s.remove(want[mark][at])
		want[mark] = slices.Delete(want[mark], at, at+1)
	}
	for i := range 2000 {
		mark := []string{"a", "b"}[r.IntN(2)]
		if n := len(want[mark]); n > 0 && r.IntN(2) == 0 {
			remove(mark, r.IntN(n))
		} else {
			id := strconv.Itoa(i)
			lock := store.Lock{ID: id, Name: id, Owner: "owner"}
			record := &Record{Record: store.Record{Lock: lock, Mark: mark}}
			s.Insert(record)
			want[mark] = append(want[mark], record)
		}
		require.ElementsMatch(t, want[mark], s.marked(Key{"owner", mark}))
	}
	for mark := range want {
		for len(want[mark]) > 0 {
			remove(mark, 0)
		}
	}
	require.Empty(t, s.byMark)
}

// TestMarks: a mark that is added again replaces the one before; marks are forgotten when their
// time has run out, in batches.
func TestMarks(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	a, b := Key{"owner", "a"}, Key{"owner", "b"}
	var marks Marks
	first := &Mark{Key: a, Until: now.Add(time.Minute)}
	require.Nil(t, marks.Add(first))
	require.Nil(t, marks.Add(&Mark{Key: b, Until: now.Add(time.Minute)}))
	require.Same(t, first, marks.Add(&Mark{Key: a, Until: now.Add(time.Hour)}))
	require.Equal(t, 2, marks.Len())
	require.Equal(t, 2, marks.Owned("owner"))
	require.True(t, marks.Has(a, now.Add(2*time.Minute)))
	require.False(t, marks.Has(b, now.Add(2*time.Minute)))
	require.False(t, marks.Has(Key{"other", "a"}, now))
	require.Empty(t, marks.Forget(now.Add(time.Minute-1), 10))
	require.Empty(t, marks.Forget(now.Add(time.Minute), 0))
	require.Equal(t, b, marks.Forget(now.Add(time.Minute), 10)[0].Key)
	require.True(t, marks.Has(a, now))
	require.Len(t, marks.Latest(), 1)
	require.Len(t, marks.Forget(now.Add(time.Hour), 10), 1)
	require.Zero(t, marks.Owned("owner"))
	require.EqualValues(t, 3, marks.Last)

	// Of two with one key that were loaded, the later one counts; both are forgotten.
	marks.Load(&Mark{Key: a, Number: 4, Until: now})
	marks.Load(&Mark{Key: a, Number: 7, Until: now.Add(time.Minute)})
	require.Equal(t, 2, marks.Len())
	require.Len(t, marks.Forget(now, 10), 1)
	require.True(t, marks.Has(a, now))
	marks.Last = 7
	for i := range 10_000 {
		replaced := marks.Add(&Mark{Key: a, Until: now})
		require.EqualValues(t, 7+i, replaced.Number)
		require.LessOrEqual(t, len(marks.queue), 20)
	}
	require.Len(t, marks.Forget(now, 10), 1)
	require.Empty(t, marks.latest)
	require.Empty(t, marks.owned)
	require.Zero(t, marks.Len())
}

// TestCancelledMarksAreRefusedForClaimTime, and an owner can have MaxMarks of them.
func TestCancelledMarksAreRefusedForClaimTime(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := NewState(new(History))
	for i := range store.MaxMarks {
		_, err := s.Cancel("owner", strconv.Itoa(i), now)
		require.NoError(t, err)
	}
	lock, err := s.Create(store.NewLock{ID: "id", Name: "name", Owner: "owner", Mark: "one more"},
		now)
	require.NoError(t, err)
	soon := now.Add(store.ClaimTime - time.Microsecond)
	_, err = s.Cancel("owner", "one more", soon)
	require.Equal(t, store.ErrTooManyMarks, err)
	require.Equal(t, lock, s.ByID("id").Lock, "nothing was done")
	_, err = s.Cancel("other", "one more", soon)
	require.NoError(t, err, "of another owner")
	_, err = s.Cancel("owner", "0", soon)
	require.NoError(t, err, "it is one of them")
	for _, mark := range []string{"0", "1", strconv.Itoa(store.MaxMarks - 1)} {
		_, err = s.Create(store.NewLock{Owner: "owner", Mark: mark}, soon)
		require.Equal(t, store.ErrCancelled, err)
	}

	then := now.Add(store.ClaimTime)
	locks, err := s.Cancel("owner", "one more", then)
	require.NoError(t, err)
	require.Equal(t, []store.Lock{lock}, locks)
	_, err = s.Create(store.NewLock{Owner: "owner", Mark: "1"}, then)
	require.NoError(t, err)
	_, err = s.Create(store.NewLock{Owner: "owner", Mark: "0"}, then)
	require.Equal(t, store.ErrCancelled, err, "it was cancelled again")
}

// TestClaimsAreForgotten after ClaimTime, and go on rising.
func TestClaimsAreForgotten(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := NewState(new(History))
	last := uint64(0)
	for i := range 100 {
		now = now.Add(time.Second)
		for range 3 {
			claim, _, err := s.Claim("owner", strconv.Itoa(i), now)
			require.NoError(t, err)
			require.Greater(t, claim, last)
			last = claim
		}
	}
	require.Equal(t, 100, s.Claims.marks.Len())
	in := store.NewLock{Owner: "owner", Mark: "0"}
	_, err := s.Create(in, now)
	require.Equal(t, store.ErrSuperseded, err)
	for i := range 100 {
		_, _, err = s.Claim("other", strconv.Itoa(i), now.Add(store.ClaimTime))
		require.NoError(t, err)
	}
	require.Equal(t, 100, s.Claims.marks.Len())
	_, err = s.Create(in, now)
	require.NoError(t, err)
}

// TestSweepTakesTheFirstToExpire, whatever was changed and removed before.
func TestSweepTakesTheFirstToExpire(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := NewState(new(History))
	for i := range 200 {
		id := strconv.Itoa(i)
		_, err := s.Create(store.NewLock{ID: id, Name: id, TTL: time.Hour}, now)
		require.NoError(t, err)
		lease := time.Duration(r.IntN(1000)) * time.Second
		_, err = s.Update(id, store.Change{Lease: &lease}, now)
		require.NoError(t, err)
		if i%7 == 0 {
			_, err = s.Delete(id, store.Ending{}, now)
			require.NoError(t, err)
		}
	}
	last := now
	for s.Len() > 0 {
		swept := s.Sweep(store.Limits{}, now)
		for _, lock := range swept.Locks {
			require.False(t, lock.ExpiresAt.Before(last))
			require.False(t, lock.ExpiresAt.After(now))
			last = lock.ExpiresAt
		}
		now = now.Add(swept.Next)
	}
}

// TestLeaseGrace: a tenth of the lease that was set last, within bounds.
func TestLeaseGrace(t *testing.T) {
	made := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	seconds := func(n float64) *time.Duration {
		d := time.Duration(n * float64(time.Second))
		return &d
	}
	at := made.Add(80 * time.Second)
	year1 := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		ttl    time.Duration
		after  time.Duration // from the creation to the change
		change store.Change
		grace  time.Duration
	}{
		"created":      {50 * time.Second, 0, store.Change{}, 5 * time.Second},
		"at least 1 s": {5 * time.Second, 0, store.Change{}, time.Second},
		"at most 10 s": {time.Hour, 0, store.Change{}, 10 * time.Second},
		"renewed": {time.Hour, time.Minute, store.Change{Lease: seconds(50)},
			5 * time.Second},
		"longer": {time.Second, 0, store.Change{Lease: seconds(50)}, 5 * time.Second},
		"set": {time.Hour, 50 * time.Second, store.Change{ExpiresAt: &at},
			3 * time.Second},
		"set to the past":   {time.Hour, 0, store.Change{ExpiresAt: &year1}, time.Second},
		"renewed backwards": {time.Hour, 0, store.Change{Lease: seconds(-50)}, time.Second},
		"extended": {50 * time.Second, 40 * time.Second, store.Change{Extend: 20 * time.Second},
			3 * time.Second},
		"shortened": {time.Hour, 0, store.Change{Extend: -3550 * time.Second}, 5 * time.Second},
		"renamed": {50 * time.Second, 40 * time.Second, store.Change{Creator: new(string)},
			5 * time.Second},
		"set to itself": {80 * time.Second, 50 * time.Second, store.Change{ExpiresAt: &at},
			3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewState(new(History))
			in := store.NewLock{ID: "id", Name: "name", TTL: c.ttl, Leased: true}
			_, err := s.Create(in, made)
			require.NoError(t, err)
			now := made.Add(c.after)
			lock, err := s.Update("id", c.change, now)
			require.NoError(t, err)
			due := lock.ExpiresAt.Add(c.grace)
			limits := store.Limits{
				Grace: 9 * time.Hour, Latest: made.AddDate(9, 0, 0), Steady: time.Hour,
			}
			swept := s.Sweep(limits, due.Add(-time.Microsecond))
			require.Equal(t, store.Swept{
				Now: due.Add(-time.Microsecond), Next: time.Microsecond,
			}, swept)
			require.Equal(t, []store.Lock{lock}, s.Sweep(limits, due).Locks)
		})
	}
}

// TestSweepAfterAStep: what must stay for its lease delays nothing else.
func TestSweepAfterAStep(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := NewState(new(History))
	for name, lease := range map[string]time.Duration{
		"long": time.Hour, "minute": time.Minute, "short": 5 * time.Second,
	} {
		_, err := s.Create(store.NewLock{ID: name, Name: name, TTL: lease, Leased: true}, now)
		require.NoError(t, err)
	}
	now = now.Add(2 * time.Hour)
	for _, look := range []struct {
		steady, next time.Duration
		want         string // swept first
	}{
		{0, 5 * time.Second, ""},
		{5*time.Second - 1, 1, ""},
		{5 * time.Second, 55 * time.Second, "short"},
		{time.Minute - 1, 1, ""},
		{time.Minute, store.Never, "minute"},
	} {
		late := s.Sweep(store.Limits{Latest: now.Add(-1), Steady: time.Hour}, now)
		require.Empty(t, late.Locks, "a step")
		require.Positive(t, late.Next)
		swept := s.Sweep(store.Limits{Latest: now, Steady: look.steady}, now)
		require.Equal(t, look.next, swept.Next)
		if look.want == "" {
			require.Empty(t, swept.Locks)
			continue
		}
		require.Equal(t, look.want, swept.Locks[0].Name)
	}
	require.Zero(t, s.Len(), "a long one stays for a minute")
}
