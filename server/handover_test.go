package server_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// handingOver is a store whose HandOver can be told what to do instead, and that counts what it is
// asked for. It says EventMissed when news is sent.
type handingOver struct {
	*memstore.Store
	creates, deletes, handOvers atomic.Int64
	instead                     func(do func() (store.Handover, error)) (store.Handover, error)
	news                        chan struct{}
}

func newHandingOver() *handingOver {
	return &handingOver{Store: memstore.New(), news: make(chan struct{})}
}

func (s *handingOver) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	s.creates.Add(1)
	return s.Store.Create(ctx, in)
}

func (s *handingOver) Delete(ctx context.Context, id string, end store.Ending) (store.Lock, error) {
	s.deletes.Add(1)
	return s.Store.Delete(ctx, id, end)
}

func (s *handingOver) HandOver(
	ctx context.Context, id string, end store.Ending, next store.NewLock,
) (store.Handover, error) {
	s.handOvers.Add(1)
	do := func() (store.Handover, error) { return s.Store.HandOver(ctx, id, end, next) }
	if s.instead != nil {
		return s.instead(do)
	}
	return do()
}

func (s *handingOver) Watch(ctx context.Context, hear func(store.Event)) error {
	for {
		select {
		case <-s.news:
			hear(store.Event{Kind: store.EventMissed})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// did answers how many creates, deletes and hand-overs there were since it was last asked.
func (s *handingOver) did() [3]int64 {
	return [3]int64{s.creates.Swap(0), s.deletes.Swap(0), s.handOvers.Swap(0)}
}

// lineOf has some wait for a lock that is held, and answers it.
func lineOf(b *backend, creators ...string) (held lock, line []*waiting) {
	held = b.create("robot-arm-1", "")
	for _, creator := range creators {
		line = append(line, b.wait("robot-arm-1", creator, 30))
		synctest.Wait()
	}
	return held, line
}

// TestAReleaseHandsOnInOneStep: deleted and created at once, told of in that order, down the whole
// line.
func TestAReleaseHandsOnInOneStep(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := newHandingOver()
		b := startOn(t, st)
		held, line := lineOf(b, "first", "second", "third")
		watch := b.watch()
		synctest.Wait()
		st.did()
		for _, w := range line {
			r := b.do(200, "DELETE", "/v1/locks/"+held.ID, "")
			require.Equal(t, held.ID, r.lock(t).ID, "answered as it was")
			require.Equal(t, [3]int64{0, 0, 1}, st.did())
			synctest.Wait()
			next := w.granted(t)
			require.Greater(t, *next.FencingToken, *held.FencingToken)
			require.Equal(t, time.Minute, next.ExpiresAt.Sub(next.CreatedAt))
			news := watch.take()
			require.Len(t, news, 2)
			require.Contains(t, news[0], "deleted")
			require.Contains(t, news[0], held.ID)
			require.Contains(t, news[1], "created")
			require.Contains(t, news[1], next.ID)
			held = next
		}
		b.delete(held.ID)
		require.Equal(t, [3]int64{0, 1, 0}, st.did(), "nobody queues any more")
		require.Empty(t, b.locks())
	})
}

// TestAHandOverToNobody: the store knows that the head of the line was cancelled, or it leaves
// while it is at it. The next has it.
func TestAHandOverToNobody(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, st *handingOver, head *waiting){
		"cancelled elsewhere": func(t *testing.T, st *handingOver, _ *waiting) {
			_, err := st.Cancel(t.Context(), "default", mark)
			require.NoError(t, err)
		},
		"left meanwhile": func(_ *testing.T, st *handingOver, head *waiting) {
			st.instead = func(do func() (store.Handover, error)) (store.Handover, error) {
				head.cancel()
				time.Sleep(time.Second)
				return do()
			}
		},
		"left, and the outcome unknown": func(_ *testing.T, st *handingOver, head *waiting) {
			st.instead = func(do func() (store.Handover, error)) (store.Handover, error) {
				head.cancel()
				time.Sleep(time.Second)
				_, _ = do()
				st.instead = nil
				return store.Handover{}, store.ErrUnavailable
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := newHandingOver()
				b := startOn(t, st)
				creator := "first"
				if name == "cancelled elsewhere" {
					creator = marked
				}
				held, line := lineOf(b, creator, "second")
				prepare(t, st, line[0])
				want := 200
				if name == "left, and the outcome unknown" {
					want = 503
				}
				b.do(want, "DELETE", "/v1/locks/"+held.ID, "")
				synctest.Wait()
				if want == 503 {
					time.Sleep(time.Second) // the name is offered again
					synctest.Wait()
				}
				require.False(t, line[0].pending())
				next := line[1].granted(t)
				require.Len(t, b.locks(), 1)
				b.delete(next.ID)
				require.Empty(t, b.locks())
			})
		})
	}
}

// TestAHandOverOfUnknownOutcome: the delete reports an unknown outcome; the waiter gets its lock as
// soon as it is, and nobody else has it.
func TestAHandOverOfUnknownOutcome(t *testing.T) {
	for _, cameAbout := range []bool{false, true} {
		for name, then := range map[string]func(
			t *testing.T, b *backend, st *handingOver, held lock, head *waiting){
			"the store says so": func(
				t *testing.T, b *backend, st *handingOver, held lock, head *waiting) {
				st.news <- struct{}{}
				time.Sleep(time.Second)
				synctest.Wait()
				require.Equal(t, cameAbout, !head.pending())
			},
			"deleted again": func(t *testing.T, b *backend, _ *handingOver, held lock,
				head *waiting) {
				status := 200
				if cameAbout {
					status = 404
				}
				b.do(status, "DELETE", "/v1/locks/"+held.ID, "")
				time.Sleep(time.Second)
				synctest.Wait()
				require.False(t, head.pending())
			},
			"it waits in vain": func(
				t *testing.T, b *backend, _ *handingOver, held lock, head *waiting) {
				time.Sleep(31 * time.Second)
				if !cameAbout {
					require.Equal(t, 409, (<-head.reply).status)
				}
			},
			"it goes": func(t *testing.T, b *backend, _ *handingOver, held lock, head *waiting) {
				head.cancel()
				synctest.Wait()
				require.Error(t, (<-head.reply).err)
			},
			"it is cancelled": func(
				t *testing.T, b *backend, _ *handingOver, held lock, head *waiting) {
				b.cancel(mark)
				synctest.Wait()
				require.Equal(t, 410, (<-head.reply).status)
			},
		} {
			if cameAbout {
				name += ", and it came about"
			}
			t.Run(name, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					st := newHandingOver()
					b := startOn(t, st)
					creator := marked
					if strings.HasPrefix(name, "it goes") {
						creator = "first"
					}
					held, line := lineOf(b, creator)
					st.instead = func(do func() (store.Handover, error)) (store.Handover, error) {
						if cameAbout {
							_, _ = do()
						}
						return store.Handover{}, store.ErrUnavailable
					}
					r := b.do(503, "DELETE", "/v1/locks/"+held.ID, "")
					require.NotEmpty(t, r.header.Get("Retry-After"))
					synctest.Wait()
					require.True(t, line[0].pending(), "it keeps its place")
					st.instead = nil

					then(t, b, st, held, line[0])
					synctest.Wait()
					if !line[0].pending() {
						held = line[0].granted(t)
						require.Equal(t, creator, *held.Creator)
					}
					locks := b.locks()
					if len(locks) > 0 { // its holder knows of it
						require.Len(t, locks, 1)
						require.Equal(t, held.ID, locks[0].ID)
						b.delete(held.ID)
					}
					synctest.Wait()
					for _, l := range b.locks() {
						require.Equal(t, l.ID, line[0].granted(t).ID)
						b.delete(l.ID)
					}
					require.Empty(t, b.locks())
				})
			})
		}
	}
}

// TestAHandOverThatCantBe: what keeps the next lock from being created does not keep the last one
// from being deleted.
func TestAHandOverThatCantBe(t *testing.T) {
	for name, instead := range map[string]func(do func() (store.Handover, error)) (
		store.Handover, error){
		"an error": func(func() (store.Handover, error)) (store.Handover, error) {
			return store.Handover{}, errors.New("no")
		},
		"a panic": func(func() (store.Handover, error)) (
			store.Handover, error) {
			panic("no")
		},
		"a panic, and it came about": func(do func() (store.Handover, error)) (
			store.Handover, error) {
			_, _ = do()
			panic("no")
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := newHandingOver()
				b := startOn(t, st)
				time.Sleep(2 * time.Second) // for which a new server hands nothing on that it found
				held, line := lineOf(b, "first", "second")
				st.instead = instead
				status := 200
				if name == "a panic, and it came about" {
					status = 404
				}
				b.do(status, "DELETE", "/v1/locks/"+held.ID, "")
				synctest.Wait()
				held = line[0].granted(t)
				st.instead = nil
				b.delete(held.ID)
				synctest.Wait()
				b.delete(line[1].granted(t).ID)
				require.Empty(t, b.locks())
			})
		})
	}
}

// TestTwoDeletesOfALockThatManyQueueFor: one is told that it did it, and one of the line has the
// lock.
func TestTwoDeletesOfALockThatManyQueueFor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := newHandingOver()
		st.instead = func(do func() (store.Handover, error)) (store.Handover, error) {
			time.Sleep(time.Second)
			return do()
		}
		b := startOn(t, st)
		held, line := lineOf(b, "first", "second")
		replies := make(chan reply, 3)
		for range cap(replies) {
			go func() { replies <- b.send(t.Context(), "DELETE", "/v1/locks/"+held.ID, "") }()
		}
		statuses := map[int]int{}
		for range cap(replies) {
			statuses[(<-replies).status]++
		}
		require.Equal(t, map[int]int{200: 1, 404: 2}, statuses)
		synctest.Wait()
		held = line[0].granted(t)
		require.True(t, line[1].pending())
		b.delete(held.ID)
		synctest.Wait()
		line[1].granted(t)
	})
}

// TestALockThatIsFoundByItsMarkIsNotTakenBack: its connection broke while it was being granted the
// lock, it asks again and finds it. If it does not want it any more it calls it off.
func TestALockThatIsFoundByItsMarkIsNotTakenBack(t *testing.T) {
	for name, slow := range map[string]func(st *handingOver, w *waiting){
		"granted": func(*handingOver, *waiting) {},
		"granted, and the outcome unknown": func(st *handingOver, _ *waiting) {
			do := st.instead
			st.instead = func(hand func() (store.Handover, error)) (store.Handover, error) {
				_, _ = do(hand)
				return store.Handover{}, store.ErrUnavailable
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := newHandingOver()
				b := startOn(t, st)
				held, line := lineOf(b, marked, "second")
				st.instead = func(do func() (store.Handover, error)) (store.Handover, error) {
					line[0].cancel()
					time.Sleep(time.Second) // it leaves the queue
					both, err := do()
					time.Sleep(time.Second) // it finds it
					return both, err
				}
				slow(st, line[0])
				go b.send(t.Context(), "DELETE", "/v1/locks/"+held.ID, "")
				time.Sleep(1500 * time.Millisecond)
				require.Contains(t,
					b.do(409, "POST", "/v1/locks", createBody("robot-arm-1", marked)).body, marked)
				time.Sleep(10 * time.Second)
				locks := b.locks()
				require.Len(t, locks, 1)
				require.Equal(t, marked, *locks[0].Creator)
				require.True(t, line[1].pending())
				b.cancel(mark)
				synctest.Wait()
				line[1].granted(t)
			})
		})
	}
}
