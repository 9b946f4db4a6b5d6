package relukko_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

var benches = []string{"bench-1", "bench-2", "bench-3"}

// locker is a Mutex or a Pool.
type locker interface {
	Lock(ctx context.Context) (held context.Context, err error)
	TryLock(ctx context.Context) (held context.Context, err error)
	Unlock(held context.Context) error
}

// locking calls Lock on another goroutine, and returns the channel on which the held context comes.
func locking(t *testing.T, l locker) <-chan context.Context {
	t.Helper()
	acquired := make(chan context.Context, 1)
	go func() {
		defer close(acquired)
		held, err := l.Lock(context.Background())
		if err != nil {
			t.Errorf("Lock: %v", err)
			return
		}
		acquired <- held
	}()
	synctest.Wait()
	return acquired
}

// lockAny locks p, or fails the test, and returns the name of the member as well.
func lockAny(t *testing.T, p *relukko.Pool) (held context.Context, name string) {
	t.Helper()
	held, err := p.Lock(t.Context())
	require.NoError(t, err)
	return held, session(t, held).Name()
}

// Several goroutines of several clients use a pool, beside mutexes of its names.
func TestPoolHoldersNeverShareAMember(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, _ backend) {
		in := map[string]*occupants{}
		for _, name := range benches {
			in[name] = new(occupants)
		}
		var all occupants
		var g errgroup.Group
		for i := range 3 {
			c := s.Client()
			p := relukko.NewPool(c, benches)
			lockers := []locker{p, p, p, relukko.NewMutex(c, benches[i])}
			for j, l := range lockers {
				g.Go(func() error {
					for k := range 8 {
						held, err := l.Lock(t.Context())
						if err != nil {
							return err
						}
						name := session(t, held).Name()
						all.enter()
						in[name].enter()
						time.Sleep(time.Duration(1+(i+j*k)%5) * 100 * time.Millisecond)
						in[name].leave()
						all.leave()
						if err := errors.Join(held.Err(), l.Unlock(held)); err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
		require.NoError(t, g.Wait())
		for name, o := range in {
			require.EqualValues(t, 1, o.most.Load(), name)
		}
		require.EqualValues(t, len(benches), all.most.Load(), "all are used at a time")
		require.Empty(t, s.Locks())
	})
}

func TestPoolTakesWhatIsFree(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, b backend) {
		p := relukko.NewPool(s.Client(), benches)
		var held []context.Context
		var got []string
		for range benches {
			ctx, name := lockAny(t, p)
			held, got = append(held, ctx), append(got, name)
			require.Equal(t, name, session(t, ctx).Info().Name)
		}
		slices.Sort(got)
		require.Equal(t, benches, got)

		start := time.Now()
		ctx, err := p.TryLock(t.Context())
		require.Less(t, time.Since(start), 10*time.Millisecond)
		require.Error(t, ctx.Err())
		require.ErrorIs(t, err, relukko.ErrLocked)
		require.ErrorContains(t, err, `relukko: pool "bench-1, bench-2, bench-3": `)
		locked, ok := errors.AsType[*relukko.LockedError](err)
		require.True(t, ok)
		if locked.Holder != nil {
			require.Contains(t, benches, locked.Name)
		}

		free := session(t, held[1]).Name()
		require.NoError(t, p.Unlock(held[1]))
		ctx, err = p.TryLock(t.Context())
		require.NoError(t, err)
		require.Equal(t, free, session(t, ctx).Name())
		require.NoError(t, session(t, ctx).Unlock())
		require.NoError(t, p.Unlock(held[0]))
		require.NoError(t, p.Unlock(held[2]))
		require.Empty(t, s.Locks())
	})
	bubble(t, "in the order of the names on our backend",
		func(t *testing.T, s *relukkotest.Server) {
			p := relukko.NewPool(s.Client(), benches)
			for _, want := range benches {
				held, name := lockAny(t, p)
				require.Equal(t, want, name)
				defer p.Unlock(held)
			}
		})
}

func TestPoolUnlockNeedsTheContext(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		p, other := relukko.NewPool(c, benches), relukko.NewPool(c, benches)
		outer, _ := lockAny(t, p)
		inner, err := p.Lock(outer)
		require.NoError(t, err)
		foreign, err := other.Lock(inner)
		require.NoError(t, err)
		require.Equal(t, "bench-3", session(t, foreign).Name(), "the innermost")
		require.ErrorIs(t, p.Unlock(t.Context()), relukko.ErrNotLocked)
		require.ErrorIs(t, other.Unlock(inner), relukko.ErrNotLocked)
		require.NoError(t, p.Unlock(foreign), "it is derived from inner")
		require.ErrorIs(t, p.Unlock(inner), relukko.ErrNotLocked, "a second time")
		require.Equal(t, relukko.ErrUnlocked, context.Cause(inner))
		require.NoError(t, outer.Err())
		require.NoError(t, p.Unlock(outer))
		require.ErrorIs(t, other.Unlock(foreign), nil)
		require.Empty(t, s.Locks())

		errWork := errors.New("it did not work")
		require.Same(t, errWork, p.Do(t.Context(), func(ctx context.Context) error {
			require.Equal(t, "bench-1", session(t, ctx).Name())
			return errWork
		}))
		require.PanicsWithValue(t, "oh", func() {
			p.Do(t.Context(), func(context.Context) error { panic("oh") })
		})
		require.Empty(t, s.Locks())
	})
}

// On our backend pools and mutexes, of one process or several, are served in the order in which
// they came.
func TestPoolIsServedInItsTurn(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c, elsewhere := s.Client(), s.NewLink().Client()
		first, second := relukko.NewMutex(c, "bench-1"), relukko.NewMutex(elsewhere, "bench-2")
		held1, held2 := lock(t, first), lock(t, second)
		two := benches[:2]
		waiters := []locker{
			relukko.NewMutex(c, "bench-1"), relukko.NewPool(c, two),
			relukko.NewPool(elsewhere, two), relukko.NewMutex(elsewhere, "bench-2"),
			relukko.NewMutex(c, "bench-1"), relukko.NewPool(c, two),
		}
		var acquired []<-chan context.Context
		for _, l := range waiters {
			acquired = append(acquired, locking(t, l))
		}
		take := func(i int, name string) {
			t.Helper()
			synctest.Wait()
			require.Len(t, acquired[i], 1, "waiter %d", i)
			held := <-acquired[i]
			require.Equal(t, name, session(t, held).Name(), "waiter %d", i)
			require.NoError(t, waiters[i].Unlock(held))
		}
		require.NoError(t, second.Unlock(held2))
		take(1, "bench-2") // the mutex before it wants the other
		take(2, "bench-2")
		take(3, "bench-2")
		require.NoError(t, waiters[5].Unlock(<-acquired[5]))
		require.NoError(t, first.Unlock(held1))
		take(0, "bench-1")
		take(4, "bench-1")
		synctest.Wait()
		require.Empty(t, s.Locks())
	})
}

func TestPoolWakesUp(t *testing.T) {
	onEach(t, func(t *testing.T, s *relukkotest.Server, b backend) {
		holder := relukko.NewPool(s.NewLink().Client(), benches)
		var held []context.Context
		for range benches {
			ctx, _ := lockAny(t, holder)
			held = append(held, ctx)
		}
		p := relukko.NewPool(s.Client(), benches)
		for i := range held {
			acquired := locking(t, p)
			time.Sleep(10 * time.Second)
			creates, start := s.Requests("POST", ""), time.Now()
			name := session(t, held[i]).Name()
			require.NoError(t, holder.Unlock(held[i]))
			ctx := <-acquired
			require.Equal(t, name, session(t, ctx).Name())
			if took := time.Since(start); b.polls || b.noPush {
				require.LessOrEqual(t, took, 5*time.Second)
			} else {
				require.LessOrEqual(t, took, 60*time.Millisecond) // by a List
			}
			if !b.noPush {
				creates = s.Requests("POST", "") - creates
				require.LessOrEqual(t, creates, 3, "a broadcast may not say which")
			}
			require.NoError(t, p.Unlock(ctx))
			held[i], _ = lockAny(t, holder)
		}
		for _, ctx := range held {
			require.NoError(t, holder.Unlock(ctx))
		}
	}, relukkotest.WithoutStream())
}

// With plain requests, a release costs one request of each process that waits.
func TestPoolSendsOneRequestARelease(t *testing.T) {
	plainly(t, "", func(t *testing.T, s *relukkotest.Server) {
		original(s)
		const waiters, sections = 10, 50
		c := s.Client()
		p := relukko.NewPool(c, benches)
		var held []context.Context
		for range benches {
			ctx, _ := lockAny(t, p)
			held = append(held, ctx)
		}
		var g errgroup.Group
		for range waiters {
			g.Go(func() error {
				for range sections / waiters {
					err := p.Do(t.Context(), func(context.Context) error {
						time.Sleep(100 * time.Millisecond)
						return nil
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		time.Sleep(10 * time.Second)
		creates := s.Requests("POST", "")
		for _, ctx := range held {
			require.NoError(t, p.Unlock(ctx))
		}
		require.NoError(t, g.Wait())
		creates = s.Requests("POST", "") - creates
		require.GreaterOrEqual(t, creates, sections)
		require.LessOrEqual(t, creates, sections+sections/10)
	})
}

func TestUnusablePools(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		c := s.Client()
		many := make([]string, 101)
		for i := range many {
			many[i] = fmt.Sprint("licence/", i)
		}
		for _, row := range []struct {
			p    *relukko.Pool
			want string
		}{
			{new(relukko.Pool), "this is a zero value; create one with NewMutex, NewPool or"},
			{relukko.NewPool(nil, benches), `pool "bench-1, bench-2, bench-3": the client is nil`},
			{relukko.NewPool(c, nil), "a pool has 1 to 100 names, not 0"},
			{
				relukko.NewPool(c, many),
				`pool "licence/0 or 100 others": a pool has 1 to 100 names, not 101`,
			},
			{relukko.NewPool(c, []string{"a", "b", "a"}), `the name "a" is in the pool twice`},
			{relukko.NewPool(c, []string{"a", ""}), `the name "" is empty`},
			{relukko.NewPool(c, []string{"a", "b\n"}), `the name "b\n" has a control character`},
			{relukko.NewPool(c, benches, relukko.WithTTL(0)), "TTL"},
			{
				relukko.NewPool(c, benches, relukko.WithHandoff()),
				"WithHandoff is for a Mutex, not for a pool; omit it",
			},
		} {
			_, err := row.p.Lock(t.Context())
			require.ErrorContains(t, err, row.want)
			_, err = row.p.TryLock(t.Context())
			require.ErrorContains(t, err, row.want)
			require.ErrorIs(t, row.p.Unlock(t.Context()), relukko.ErrNotLocked)
		}
		require.Zero(t, s.Requests("", ""))
		most := relukko.NewPool(c, many[:100])
		held, name := lockAny(t, most)
		require.Equal(t, "licence/0", name)
		require.NoError(t, most.Unlock(held))
	})
}

// creates matches the creates of some names.
func creates(names ...string) relukkotest.Match {
	return func(r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		return slices.ContainsFunc(names, func(name string) bool {
			return bytes.Contains(body, []byte(`"`+name+`"`))
		})
	}
}

func TestPoolWithoutTheRefusedNames(t *testing.T) {
	refusal := relukkotest.Answer{
		Status: 403, Body: `{"status": 403, "message": "this key may not lock it"}`,
	}
	for _, wait := range []bool{false, true} {
		plainly(t, fmt.Sprint("waits: ", wait), func(t *testing.T, s *relukkotest.Server) {
			original(s)
			p := relukko.NewPool(s.Client(), benches)
			lock := p.TryLock
			if wait {
				lock = p.Lock
			}
			s.AnswerNext(-1, creates("bench-1", "bench-3"), refusal)
			held, err := lock(t.Context())
			require.NoError(t, err)
			require.Equal(t, "bench-2", session(t, held).Name())
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err = p.Lock(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, relukko.ErrLocked)
			require.ErrorContains(t, err, `"bench-2" is held by`)
			require.NoError(t, p.Unlock(held))

			s.AnswerNext(-1, creates("bench-2"), refusal)
			_, err = lock(t.Context())
			require.ErrorIs(t, err, api.ErrRefused)
			for _, name := range benches {
				require.ErrorContains(t, err, `"`+name+`": `)
			}
		})
	}
}

func TestNoOrphansOfAPoolThatGivesUp(t *testing.T) {
	for name, opts := range map[string][]relukkotest.Option{
		"stream": nil, "plain": {relukkotest.WithoutStream()},
	} {
		bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
			others := s.NewLink().Client()
			c := s.Client()
			for delay := range 12 {
				p := relukko.NewPool(c, benches)
				hold := s.HoldReplies(nil)
				limit := time.Duration(delay) * time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				held, err := p.Lock(ctx)
				cancel()
				if err == nil {
					require.NoError(t, p.Unlock(held))
				} else {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
				hold.Release()
				time.Sleep(2 * time.Minute)
				require.Empty(t, s.Locks())
			}
			p := relukko.NewPool(others, benches)
			for range benches {
				held, _ := lockAny(t, p)
				defer p.Unlock(held)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := relukko.NewPool(c, benches).Lock(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, relukko.ErrLocked)
			require.Len(t, s.Locks(), len(benches))
		}, opts...)
	}
}

// A waiting pool moves from the stream to plain requests and back.
func TestPoolMovesBetweenTheDrivers(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		holder := relukko.NewPool(s.NewLink().Client(), benches)
		held := map[string]context.Context{}
		for range benches {
			ctx, name := lockAny(t, holder)
			held[name] = ctx
		}
		p := relukko.NewPool(s.Client(), benches)
		for _, name := range benches {
			acquired := locking(t, p)
			time.Sleep(time.Second)
			s.RefuseWebSockets(true)
			s.DropWebSockets()
			time.Sleep(time.Minute) // it uses plain requests now
			if name == "bench-2" {
				s.Heal()
				time.Sleep(15 * time.Minute) // and the stream again
			}
			require.Empty(t, acquired)
			require.NoError(t, holder.Unlock(held[name]))
			ctx := <-acquired
			require.Equal(t, name, session(t, ctx).Name())
			require.NoError(t, p.Unlock(ctx))
			s.Heal()
			held[name], _ = lockAny(t, holder)
			time.Sleep(15 * time.Minute)
		}
		for _, ctx := range held {
			require.NoError(t, holder.Unlock(ctx))
		}
		time.Sleep(2 * time.Minute)
		require.Empty(t, s.Locks())
	})
}

func TestPoolInTrustMode(t *testing.T) {
	t.Setenv("RELUKKO_TRUST_ME_IT_IS_LOCKED", "yes")
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		p := relukko.NewPool(s.Client(), benches)
		var held []context.Context
		for range 4 {
			ctx, name := lockAny(t, p)
			require.Equal(t, "bench-1", name)
			held = append(held, ctx)
		}
		for _, ctx := range held {
			require.NoError(t, p.Unlock(ctx))
		}
		require.Zero(t, s.Requests("", ""))
	})
}

// WithOnWait reports the member for which the fewest wait.
func TestPoolReportsItsBestPlace(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		others := s.NewLink().Client()
		held := map[string]context.Context{}
		holder := relukko.NewPool(others, benches)
		for range benches {
			ctx, name := lockAny(t, holder)
			held[name] = ctx
		}
		var waiting []<-chan context.Context
		m := [2]*relukko.Mutex{
			relukko.NewMutex(others, "bench-1"), relukko.NewMutex(others, "bench-3"),
		}
		for i := range m {
			waiting = append(waiting, locking(t, m[i]))
		}
		var mu sync.Mutex
		var last relukko.Waiting
		p := relukko.NewPool(s.Client(), benches, relukko.WithOnWait(func(w relukko.Waiting) {
			mu.Lock()
			defer mu.Unlock()
			last = w
		}))
		acquired := locking(t, p)
		time.Sleep(3 * time.Second)
		mu.Lock()
		require.Equal(t, "bench-2", last.Holder.Name)
		require.Zero(t, last.Ahead)
		mu.Unlock()
		for name, ctx := range held {
			require.NoError(t, holder.Unlock(ctx), name)
		}
		require.NoError(t, p.Unlock(<-acquired))
		for i := range m {
			require.NoError(t, m[i].Unlock(<-waiting[i]))
		}
	})
}

// TestRandomFaultsOfPools has pools and mutexes contend with plain requests while things happen to
// the server and its network.
func TestRandomFaultsOfPools(t *testing.T) {
	for name, setUp := range kinds {
		for seed := range uint64(*streamSeeds) / 2 {
			plainly(t, fmt.Sprint(name, "/", seed), func(t *testing.T, s *relukkotest.Server) {
				setUp(s)
				w := newWorkers(t, s, seed)
				w.unsure, w.pools = true, true
				ctx, end := context.WithCancel(t.Context())
				var troubles sync.WaitGroup
				troubles.Go(func() { w.trouble(ctx, rand.New(rand.NewPCG(seed, 99))) })
				w.run(t)
				end()
				troubles.Wait()
				w.check(t)
			})
		}
	}
}
