package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// doubtful is a store that does not know whether it has made a lock: it comes to be after a while.
type doubtful struct {
	*faulty
	after time.Duration
}

func (d *doubtful) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	err := d.check()
	if err == nil {
		return d.Store.Create(ctx, in)
	}
	if !errors.Is(err, store.ErrNotDone) {
		go func() {
			time.Sleep(d.after)
			_, _ = d.Store.Create(ctx, in)
		}()
	}
	return store.Lock{}, err
}

// Claim works, so that it is creates whose outcome is unknown.
func (d *doubtful) Claim(ctx context.Context, owner, mark string) (uint64, []store.Lock, error) {
	return d.Store.Claim(ctx, owner, mark)
}

// TestACreateOfUnknownOutcomeLeavesNothing: a client that was told 503 and tries again does not
// find a lock of its own in the way. A lock with a mark is its caller's to find.
func TestACreateOfUnknownOutcomeLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		after   time.Duration
		creator string
		stays   bool
	}{
		"made at once":                 {0, "", false},
		"made when the store is back":  {8 * time.Second, "", false},
		"made soon after":              {13 * time.Second, "", false},
		"one that has a creator":       {0, "Ada", false},
		"one that can be found by all": {0, marked, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := &doubtful{newFaulty(), c.after}
				b := startOn(t, st)
				st.fail(store.ErrUnavailable, nil)
				b.do(503, "POST", "/v1/locks", createBody("robot-arm-1", c.creator))
				time.Sleep(8 * time.Second)
				st.fail(nil, nil)
				time.Sleep(2 * time.Second)
				if c.after > 10*time.Second {
					require.Empty(t, b.locks())
					time.Sleep(5 * time.Second)
				}
				if !c.stays {
					b.create("robot-arm-1", c.creator)
				}
				time.Sleep(time.Minute)
				require.Len(t, b.locks(), 1, "whose caller was told of it, or can find it")
				ended := b.history("")
				if c.after == 0 && !c.stays {
					require.Len(t, ended, 1)
				}
				for _, e := range ended {
					require.Equal(t, "cancelled", e.Ended)
				}
			})
		})
	}
}

// TestAnUnknownOutcomeIsNotLostAmongOthers: however many creates have not even been sent while the
// store was gone.
func TestAnUnknownOutcomeIsNotLostAmongOthers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &doubtful{newFaulty(), 8 * time.Second}
		b := startOn(t, st)
		st.fail(fmt.Errorf("no connection: %w: %w", store.ErrUnavailable, store.ErrNotDone), nil)
		for range 2000 {
			b.do(503, "POST", "/v1/locks", createBody("robot-arm-1", ""))
		}
		st.fail(store.ErrUnavailable, nil)
		b.do(503, "POST", "/v1/locks", createBody("robot-arm-1", ""))
		st.fail(nil, nil)
		time.Sleep(10 * time.Second)
		require.Empty(t, b.locks())
	})
}

// TestTheEndOfAnOrphanIsHeard at once, also where nobody asks for anything meanwhile: who waits for
// the name waits for that.
func TestTheEndOfAnOrphanIsHeard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &doubtful{newFaulty(), 3500 * time.Millisecond}
		b := startOn(t, st)
		st.fail(store.ErrUnavailable, nil)
		b.do(503, "POST", "/v1/locks", createBody("robot-arm-1", ""))
		time.Sleep(3600 * time.Millisecond) // it has come to be, and is cancelled now
		st.fail(nil, nil)
		watch := b.watch()
		time.Sleep(time.Second)
		require.Contains(t, strings.Join(watch.take(), ""), "deleted")
	})
}

// adrift is a store that does not know whether it has handed a lock over: it comes about after a
// while.
type adrift struct {
	*faulty
	memory *memstore.Store
	after  time.Duration
	takes  time.Duration // to say that it does not know
}

func (a *adrift) HandOver(ctx context.Context, id string, end store.Ending, next store.NewLock) (
	store.Handover, error) {
	err := a.check()
	if err == nil {
		return a.memory.HandOver(ctx, id, end, next)
	}
	go func() {
		time.Sleep(a.after)
		_, _ = a.memory.HandOver(ctx, id, end, next)
	}()
	time.Sleep(a.takes)
	return store.Handover{}, err
}

// TestAWaiterOfUnknownOutcomeLeavesNothing: its wait is over before it is known whether it was
// granted the lock. One with a mark is told that it is not known, and may take what it finds for
// its own.
func TestAWaiterOfUnknownOutcomeLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		after   time.Duration
		takes   time.Duration
		outage  time.Duration
		creator string
		status  int
		stays   bool
	}{
		"granted in the end": {0, 0, time.Second, "", 201, true},
		"granted when it has gone": {8 * time.Second, 0, time.Second, "", 409,
			false},
		"gone before the outcome was unknown": {8 * time.Second, 6 * time.Second,
			time.Second, "", 503, false},
		"granted, and not to be taken back": {0, 0, 8 * time.Second, "", 503, false},
		"granted when it has gone and it can't be": {8 * time.Second, 0, 7 * time.Second, "",
			503, false},
		"one that can be found, granted in the end":   {0, 0, time.Second, marked, 201, true},
		"one that can be found, not to be taken back": {0, 0, 8 * time.Second, marked, 503, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				memory := memstore.New()
				st := &adrift{&faulty{Store: memory}, memory, c.after, c.takes}
				b := startOn(t, st)
				held := b.create("robot-arm-1", "")
				w := b.wait("robot-arm-1", c.creator, 5)
				synctest.Wait()
				st.fail(store.ErrUnavailable, nil)
				time.AfterFunc(c.outage, func() { st.fail(nil, nil) })
				b.do(503, "DELETE", "/v1/locks/"+held.ID, "")
				time.Sleep(20 * time.Second)
				require.Equal(t, c.status, (<-w.reply).status)
				if !c.stays {
					require.Empty(t, b.locks())
					return
				}
				require.Len(t, b.locks(), 1)
				require.Contains(t, b.do(409, "POST", "/v1/locks",
					createBody("robot-arm-1", c.creator)).body, `"lock":`)
			})
		})
	}
}

// TestAHandOverThatComesAboutLate does not bring back what its waiter has been granted, and has
// released, meanwhile.
func TestAHandOverThatComesAboutLate(t *testing.T) {
	for _, creator := range []string{"", marked} {
		bubble.Test(t, func(t *testing.T) {
			memory := memstore.New()
			st := &adrift{&faulty{Store: memory}, memory, 4 * time.Second, 0}
			b := startOn(t, st)
			held := b.create("robot-arm-1", "")
			w := b.wait("robot-arm-1", creator, 30)
			synctest.Wait()
			st.fail(store.ErrUnavailable, nil)
			b.do(503, "DELETE", "/v1/locks/"+held.ID, "")
			st.fail(nil, nil)
			b.delete(held.ID)
			time.Sleep(time.Second)
			synctest.Wait()
			granted := w.granted(t)
			b.delete(granted.ID)
			time.Sleep(4*time.Second + time.Millisecond)
			b.do(404, "GET", "/v1/locks/"+granted.ID, "")
			time.Sleep(time.Second)
			require.Empty(t, b.locks())
		})
	}
}
