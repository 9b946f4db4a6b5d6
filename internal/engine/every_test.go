package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

func all(n ...string) option {
	return func(w *Waiter) { w.Names, w.All = n, true }
}

func TestAllOfSeveral(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c, other := b.connect(), b.connect()
		c.acquire("both", all("y", "x"))
		require.Equal(t, []string{"both granted y+x seen"}, c.told())
		other.acquire("x1", names("x"))
		other.acquire("next", all("x", "y"))
		require.Equal(t, []string{"wanted by 1", "wanted by 1"}, c.told())
		require.NoError(t, c.release("y"))
		require.NoError(t, c.release("x"))
		require.Equal(t, []string{"x1 granted x seen", "wanted by 1"}, other.told(), "it is first")
		require.NoError(t, other.release("x"))
		require.Equal(t, []string{"next granted x+y seen"}, other.told())
		other.acquire("next", again, all("x", "y"))
		require.Equal(t, []string{"next granted x+y found"}, other.told())
		require.NoError(t, other.release("x"))
		other.acquire("next", again, all("x", "y"))
		told := other.told()
		require.Equal(t, "next granted x+y seen", told[len(told)-1], "it gave y up, and has both")
		require.NoError(t, other.cancel("next"))
		locks, err := b.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, locks)
		require.Empty(t, b.queues)
	})
}

// TestAllOfSeveralWithoutWait: one that is held, reserved or wanted by others refuses them all.
func TestAllOfSeveralWithoutWait(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c := b.connect()
		c.acquire("h", names("y"))
		c.acquire("a", noWait, all("x", "y", "z"))
		c.acquire("w", all("x", "y"))
		c.acquire("b", noWait, all("z", "x"))
		c.acquire("c", noWait, names("x"))
		c.acquire("d", noWait, all("z", "u"))
		c.acquire("w", all("x"))
		require.Equal(t, []string{
			"h granted y seen",
			"a refused relukko: the name is held, held by h",
			"wanted by 1",
			"b refused relukko: the name is held",
			"c refused relukko: the name is held",
			"d granted z+u seen",
			"w refused relukko: the mark is in use for other names",
		}, c.told())
	})
}

// TestAllOfSeveralWithoutWaitThatAreFoundInPart: the rest is given up. If the store cannot do that,
// a client that does not wait is told so, and the rest is deleted when the store is back.
func TestAllOfSeveralWithoutWaitThatAreFoundInPart(t *testing.T) {
	for name, f := range map[string]faults{
		"down":             {fail: errNotDone},
		"slow and down":    {fail: errNotDone, delay: 2 * time.Second},
		"unknown":          {fail: errDown},
		"unknown and done": {fail: errDown, after: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSlowStore()
			run(t, s, func(b *bench) {
				c := b.connect()
				c.acquire("a", all("x", "y"))
				c.told()
				require.NoError(t, c.release("x"))
				s.set(faults{delay: time.Second})
				c.acquire("a", noWait, again, all("x", "y"))
				synctest.Wait()
				s.set(f) // when the mark was claimed
				time.Sleep(5 * time.Second)
				require.Equal(t, []string{"a refused " + f.fail.Error()}, c.told())
				s.set(faults{})
				time.Sleep(5 * time.Second)
				locks, err := b.List(t.Context())
				require.NoError(t, err)
				require.Empty(t, locks)
				require.Empty(t, b.queues)
			})
		})
	}
}

// TestAllOfSeveralWithoutWaitAsksForTheHolder: an error has it as the store does, not as it was
// last seen.
func TestAllOfSeveralWithoutWaitAsksForTheHolder(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		c := b.connect()
		c.acquire("h", names("y"))
		c.acquire("w", names("y")) // the engine learns who holds it
		h, err := b.Holder(t.Context(), "y")
		require.NoError(t, err)
		renamed := "renamed"
		_, err = b.Update(t.Context(), h.ID, store.Change{Creator: &renamed})
		require.NoError(t, err)
		c.told()
		c.acquire("a", noWait, priority(1), all("x", "y"))
		require.Equal(t, []string{"a refused relukko: the name is held, held by renamed"}, c.told())
	})
}

// TestReservationsLapse: a free name is kept for one who waits for another as well, but not for
// ever, and then the next in its queue has it once.
func TestReservationsLapse(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		holder, c, other := b.connect(), b.connect(), b.connect()
		holder.acquire("h", names("y"))
		c.acquire("both", all("x", "y"))
		other.acquire("x1", names("x"))
		other.acquire("x2", names("x"))
		require.Empty(t, other.told(), "x is reserved")
		wait := func(d time.Duration) {
			for range d / time.Second {
				time.Sleep(time.Second)
				for _, c := range []*client{holder, c, other} {
					b.Heard(c.conn, 0)
				}
			}
		}
		wait(reservation - time.Second)
		require.Empty(t, other.told())
		wait(time.Second)
		require.Equal(t, []string{"x1 granted x seen", "wanted by 2"}, other.told())
		require.NoError(t, other.release("x"))
		require.Empty(t, other.told(), "reserved again")
		wait(2*reservation - time.Second)
		require.Empty(t, other.told())
		wait(time.Second)
		require.Equal(t, []string{"x2 granted x seen", "wanted by 1"}, other.told())
		other.acquire("x3", names("x"))
		require.NoError(t, holder.release("y"))
		require.NoError(t, other.release("x"))
		require.Equal(t, []string{"both granted x+y seen", "wanted by 1"}, c.told())
	})
}

// TestNoDeadlockWithAHolderThatWaits: one holds x and waits for y, for which another waits who
// wants both.
func TestNoDeadlockWithAHolderThatWaits(t *testing.T) {
	for _, order := range [][]string{{"x", "y"}, {"y", "x"}} {
		run(t, memstore.New(), func(b *bench) {
			holder, c := b.connect(), b.connect()
			holder.acquire("h", names("x"))
			c.acquire("both", all(order...))
			holder.acquire("h2", names("y"), noWait)
			holder.acquire("h3", names("y"))
			require.Equal(t, []string{"h granted x seen", "wanted by 1",
				"h2 refused relukko: the name is held"}, holder.told())
			time.Sleep(reservation)
			require.Equal(t, []string{"h3 granted y seen", "wanted by 1"}, holder.told())
			require.NoError(t, holder.release("x"))
			require.NoError(t, holder.release("y"))
			require.Equal(t, []string{"both granted " + order[0] + "+" + order[1] + " seen"},
				c.told())
		})
	}
}

// TestReservationsTakeTurns: however many wait for other names as well, those that want only a free
// one have it, and then each has its turn again.
func TestReservationsTakeTurns(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		b.connect().acquire("h", names("y"))
		b.connect().acquire("i", names("z"))
		c := b.connect()
		c.acquire("w", all("x", "y"))
		c.acquire("v", all("x", "z"))
		c.acquire("s", names("x"))
		hear := func(d time.Duration) {
			for range d / time.Second {
				time.Sleep(time.Second)
				b.Heard(c.conn, 0)
			}
			synctest.Wait()
		}
		hear(reservation - time.Second)
		require.Empty(t, c.told())
		hear(time.Second)
		require.Equal(t, []string{"s granted x seen", "wanted by 2"}, c.told())
		require.NoError(t, c.release("x"))
		require.Equal(t, "v", nameOf(b.reserved("x").w))
		c.acquire("s", names("x"))
		hear(reservation)
		require.Equal(t, []string{"s granted x seen", "wanted by 2"}, c.told())
		require.NoError(t, c.release("x"))
		require.Equal(t, "w", nameOf(b.reserved("x").w))
		hear(2 * reservation)
		require.Equal(t, "v", nameOf(b.reserved("x").w))
		lock, err := b.Holder(t.Context(), "z")
		require.NoError(t, err)
		b.deleteQuietly(lock.ID)
		require.Equal(t, []string{"v granted x+z seen", "wanted by 1"}, c.told(), "it is its turn")
	})
}

// TestReservationsThatTakeTurnsDoNotKeepWhatIsFree: each of three names is kept for another waiter
// when the last one comes free.
func TestReservationsThatTakeTurnsDoNotKeepWhatIsFree(t *testing.T) {
	for _, last := range []string{"x", "y", "z"} {
		t.Run(last, func(t *testing.T) {
			run(t, memstore.New(), func(b *bench) {
				holder, c := b.connect(), b.connect()
				wait := func(d time.Duration) {
					for range d / time.Second {
						time.Sleep(time.Second)
						b.Heard(holder.conn, 0)
						b.Heard(c.conn, 0)
					}
				}
				for _, name := range []string{"x", "y", "z"} {
					holder.acquire("h"+name, names(name))
				}
				for _, mark := range []string{"m1", "m2", "m3"} {
					c.acquire(mark, all("x", "y", "z"))
				}
				for _, name := range []string{"x", "y", "z"} {
					if name != last {
						require.NoError(t, holder.release(name))
						wait(reservation + 2*time.Second)
					}
				}
				require.Empty(t, c.told())
				require.NoError(t, holder.release(last))
				require.Contains(t, c.told(), "m1 granted x+y+z seen")
			})
		})
	}
}

// TestOneThatIsPassedOverTakesWhatIsFree: the last name comes free when it is the turn of another,
// which cannot have all of its names.
func TestOneThatIsPassedOverTakesWhatIsFree(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		holder, c := b.connect(), b.connect()
		wait := func(d time.Duration) {
			for range d / time.Second {
				time.Sleep(time.Second)
				b.Heard(holder.conn, 0)
				b.Heard(c.conn, 0)
			}
		}
		for _, name := range []string{"x", "y", "z"} {
			holder.acquire("h"+name, names(name))
		}
		c.acquire("m1", all("x", "y", "z"))
		c.acquire("m2", all("x", "y", "z"))
		holder.acquire("s", names("z"))
		require.NoError(t, holder.release("z"))
		require.NoError(t, holder.release("x"))
		wait(reservation)
		require.Contains(t, holder.told(), "s granted z seen", "m1 is passed over")
		require.NoError(t, holder.release("y"))
		require.Equal(t, "m2", nameOf(b.reserved("x").w))
		require.Equal(t, "m1", nameOf(b.reserved("y").w))
		require.Empty(t, c.told())
		require.NoError(t, holder.release("z"))
		require.Equal(t, []string{"m1 granted x+y+z seen", "wanted by 1", "wanted by 1",
			"wanted by 1"}, c.told())
	})
}

// TestAPlainClientHasItsTurnAfterAReservation, also if it has missed one before.
func TestAPlainClientHasItsTurnAfterAReservation(t *testing.T) {
	run(t, memstore.New(), func(b *bench) {
		holder, c := b.connect(), b.connect()
		holder.acquire("h", names("y"))
		holder.acquire("hx", names("x"))
		c.acquire("both", all("x", "y"))
		p, _ := b.plain("py", noWait, names("x"))
		p.told()
		require.NoError(t, holder.release("x"))
		for range 2 {
			for range 3 * reservation / time.Second {
				time.Sleep(time.Second)
				b.Heard(c.conn, 0)
				synctest.Wait()
				if r := b.reserved("x"); r != nil && r.w == nil {
					break
				}
			}
			require.Nil(t, b.reserved("x").w, "the turn of the plain client")
			time.Sleep(plainTurn + time.Millisecond) // missed
			p, _ = b.plain("py", noWait, names("x"))
			require.Contains(t, p.told()[0], "refused")
		}
	})
}

// reserved returns the place for which the name is reserved.
func (b *bench) reserved(name string) *place {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queues[name].reserved
}

// TestAReservationEndsWithItsConnection, or with its waiter.
func TestAReservationEndsWithItsConnection(t *testing.T) {
	for name, end := range map[string]func(b *bench, c *client){
		"broken": func(b *bench, c *client) { b.Disconnect(c.conn, false) },
		"closed": func(b *bench, c *client) { b.Disconnect(c.conn, true) },
		"cancelled": func(_ *bench, c *client) {
			require.NoError(t, c.cancel("both"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, memstore.New(), func(b *bench) {
				holder, c, other := b.connect(), b.connect(), b.connect()
				holder.acquire("h", names("y"))
				c.acquire("both", all("x", "y"))
				other.acquire("x1", names("x"))
				require.Empty(t, other.told())
				end(b, c)
				require.Equal(t, "x1 granted x seen", other.told()[0])
			})
		})
	}
}

// slowAll is a store whose calls for all of several names take their time, and fail if told to.
type slowAll struct {
	*memstore.Store
	gate chan error
	down bool
}

func (s *slowAll) CreateAll(ctx context.Context, in []store.NewLock) ([]store.Lock, error) {
	err := <-s.gate
	if errors.Is(err, errLeft) {
		return []store.Lock{{}, {Name: in[1].Name}}, store.ErrHeld
	}
	if err != nil && !unknownOutcome(err) {
		return nil, err
	}
	locks, failed := s.Store.CreateAll(ctx, in)
	if err != nil {
		return nil, err
	}
	return locks, failed
}

var errLeft = errors.New("the second name is left to another server")

// Holder fails if it is told to.
func (s *slowAll) Holder(ctx context.Context, name string) (store.Lock, error) {
	if s.down {
		return store.Lock{}, errNotDone
	}
	return s.Store.Holder(ctx, name)
}

// notInMemory hides that a store is in memory.
type notInMemory struct{ store.Store }

func TestAllOfSeveralWithAStoreThatFails(t *testing.T) {
	for name, row := range map[string]struct {
		err  error
		want string
	}{
		"nothing was done": {errNotDone, "both granted x+y seen"},
		"unknown outcome":  {errDown, "both granted x+y found"},
		"cancelled": {store.ErrCancelled,
			"both refused relukko: the acquire was cancelled"},
		"it works": {nil, "both granted x+y seen"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &slowAll{Store: memstore.New()}
			run(t, notInMemory{s}, func(b *bench) {
				s.gate = make(chan error) // of this bubble
				c, other := b.connect(), b.connect()
				c.acquire("both", all("x", "y"))
				other.acquire("x1", names("x"))
				synctest.Wait()
				require.Empty(t, other.told(), "a name with a call under way counts as taken")
				s.gate <- row.err
				if row.err == errNotDone {
					require.Equal(t, []string(nil), append([]string(nil), c.told()...))
					time.Sleep(retryPause)
					s.gate <- nil
				}
				time.Sleep(retryPause)
				require.Equal(t, row.want, c.told()[0])
			})
		})
	}
}

// TestANameThatIsLeftToAnotherServer does not keep the others from being free.
func TestANameThatIsLeftToAnotherServer(t *testing.T) {
	s := &slowAll{Store: memstore.New()}
	run(t, notInMemory{s}, func(b *bench) {
		s.gate = make(chan error)
		c := b.connect()
		c.acquire("both", all("x", "y"))
		s.gate <- errLeft
		synctest.Wait()
		require.Nil(t, b.queues["x"].holder)
		require.NotNil(t, b.queues["x"].reserved)
		b.handle(store.Event{Kind: store.EventFree, Lock: store.Lock{Name: "y"}})
		s.gate <- nil
		synctest.Wait()
		require.Equal(t, []string{"both granted x+y seen"}, c.told())
	})
}

// TestWithoutWaitAHolderThatCannotBeReadIsReported: one that does not wait is refused.
func TestWithoutWaitAHolderThatCannotBeReadIsReported(t *testing.T) {
	s := &slowAll{Store: memstore.New()}
	run(t, notInMemory{s}, func(b *bench) {
		c := b.connect()
		c.acquire("h", names("x"))
		c.acquire("w", names("x"))
		synctest.Wait()
		c.told()
		time.Sleep(offerAgain + 1)
		s.down = true
		c.acquire("both", noWait, priority(1), all("x", "y"))
		synctest.Wait()
		require.Equal(t, []string{"both refused " + errNotDone.Error()}, c.told())
	})
}

// lateAll is a store whose first call for all of several names does not take effect in time.
type lateAll struct {
	*memstore.Store
	late []store.NewLock
}

func (s *lateAll) CreateAll(ctx context.Context, in []store.NewLock) ([]store.Lock, error) {
	if s.late == nil {
		s.late = slices.Clone(in)
		return nil, fmt.Errorf("no answer: %w", store.ErrUnavailable)
	}
	return s.Store.CreateAll(ctx, in)
}

// TestACreateOfAllThatIsLateHasNoEffect: the mark was claimed before the next one.
func TestACreateOfAllThatIsLateHasNoEffect(t *testing.T) {
	s := &lateAll{Store: memstore.New()}
	run(t, notInMemory{s}, func(b *bench) {
		c := b.connect()
		c.acquire("both", all("x", "y"))
		time.Sleep(2 * retryPause)
		require.Equal(t, []string{"both granted x+y seen"}, c.told())
		require.NoError(t, c.release("x"))
		require.NoError(t, c.release("y"))
		_, err := s.CreateAll(t.Context(), s.late)
		require.ErrorIs(t, err, store.ErrSuperseded)
	})
}

// TestACancelCrossesTheCreateOfAll: nothing is left of it.
func TestACancelCrossesTheCreateOfAll(t *testing.T) {
	s := &slowAll{Store: memstore.New()}
	run(t, notInMemory{s}, func(b *bench) {
		s.gate = make(chan error)
		c := b.connect()
		c.acquire("both", all("x", "y"))
		synctest.Wait()
		require.NoError(t, c.cancel("both"))
		s.gate <- nil
		synctest.Wait()
		locks, err := b.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, locks)
		require.Empty(t, c.told())
	})
}

// slowReply is a store whose replies for all of several names take their time.
type slowReply struct {
	*memstore.Store
	gate chan struct{}
}

func (s *slowReply) CreateAll(ctx context.Context, in []store.NewLock) ([]store.Lock, error) {
	locks, err := s.Store.CreateAll(ctx, in)
	<-s.gate
	return locks, err
}

// TestWithoutWaitTheCreateOfAllIsAwaited: when it has ended the name is refused, although the locks
// were found, and granted, by their mark before.
func TestWithoutWaitTheCreateOfAllIsAwaited(t *testing.T) {
	s := &slowReply{Store: memstore.New()}
	run(t, notInMemory{s}, func(b *bench) {
		s.gate = make(chan struct{})
		c, back := b.connect(), b.connect()
		c.acquire("both", all("x", "y"))
		synctest.Wait()
		b.Disconnect(c.conn, false)
		back.acquire("both", again, all("x", "y"))
		require.Equal(t, []string{"both granted x+y found"}, back.told())
		back.acquire("t", noWait, names("x"))
		require.Empty(t, back.told())
		s.gate <- struct{}{}
		require.Equal(t, []string{"t refused relukko: the name is held, held by both"}, back.told())
	})
}
