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

type indexed struct{ pos int }

func (i *indexed) IndexPos() *int { return &i.pos }

// TestIndex adds and removes at random, and compares with a slice.
func TestIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var x Index[string, *indexed]
	want := map[string][]*indexed{"a": nil, "b": nil}
	for range 2000 {
		key := []string{"a", "b"}[r.IntN(2)]
		if n := len(want[key]); n > 0 && r.IntN(2) == 0 {
			at := r.IntN(n)
			x.Remove(key, want[key][at])
			want[key] = slices.Delete(want[key], at, at+1)
		} else {
			v := new(indexed)
			x.Add(key, v)
			want[key] = append(want[key], v)
		}
		require.ElementsMatch(t, want[key], x.All(key))
	}
	for key, values := range want {
		for _, v := range values {
			x.Remove(key, v)
		}
	}
	require.Zero(t, x.Len())
}

// TestTombstones: a mark that is called off again is refused until the later time; expired ones are
// forgotten in batches, and the oldest ones of too many.
func TestTombstones(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	var marks Tombstones
	marks.Add(&Tombstone{Mark: "a", Until: now.Add(time.Minute)})
	marks.Add(&Tombstone{Mark: "b", Until: now.Add(time.Minute)})
	marks.Add(&Tombstone{Mark: "a", Until: now.Add(time.Hour)})
	require.True(t, marks.Has("a", now.Add(2*time.Minute)))
	require.False(t, marks.Has("b", now.Add(2*time.Minute)))
	require.Len(t, marks.Forget(now.Add(2*time.Minute), 1), 1)
	require.Len(t, marks.Forget(now.Add(2*time.Minute), 10), 1)
	require.True(t, marks.Has("a", now))
	require.Len(t, marks.Latest(), 1)
	for i := range MaxTombstones {
		marks.Add(&Tombstone{Mark: strconv.Itoa(i), Until: now.Add(time.Hour)})
	}
	require.Len(t, marks.Forget(now, 0), 1)
	require.Equal(t, MaxTombstones, marks.Len())
	require.False(t, marks.Has("a", now))
	require.EqualValues(t, MaxTombstones+3, marks.Last)
}

// TestSweepTakesTheFirstToExpire, whatever was changed and removed before.
func TestSweepTakesTheFirstToExpire(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := NewState(nil)
	for i := range 200 {
		id := strconv.Itoa(i)
		_, err := s.Create(store.NewLock{ID: id, Name: id, TTL: time.Hour}, now)
		require.NoError(t, err)
		lease := time.Duration(r.IntN(1000)) * time.Second
		_, err = s.Update(id, store.Change{Lease: &lease}, now)
		require.NoError(t, err)
		if i%7 == 0 {
			_, err = s.Delete(id)
			require.NoError(t, err)
		}
	}
	last := now
	for s.Len() > 0 {
		swept, next := s.Sweep(0, now)
		for _, lock := range swept {
			require.False(t, lock.ExpiresAt.Before(last))
			require.False(t, lock.ExpiresAt.After(now))
			last = lock.ExpiresAt
		}
		now = now.Add(next)
	}
}
