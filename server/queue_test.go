package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

func TestQueueIsFirstInFirstOut(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		held := b.create("robot-arm-1", "")
		b.create("robot-arm-2", "")
		const n = 10
		var line []*waiting
		for i := range n {
			line = append(line, b.wait("robot-arm-1", fmt.Sprint("waiter ", i), 30))
			synctest.Wait()
			require.Equal(t, i+1, *b.do(200, "GET", "/v1/locks/"+held.ID+"?waiters=1", "").lock(
				t).Waiters)
		}
		locks := b.locks()
		require.Equal(t, []int{n, 0}, []int{*locks[0].Waiters, *locks[1].Waiters})

		for i, w := range line {
			time.Sleep(time.Second)
			deleted := time.Now()
			b.delete(held.ID)
			holder := b.locks()[1] // already granted when the delete is answered
			synctest.Wait()
			held = w.granted(t)
			require.Equal(t, held.ID, holder.ID)
			require.Equal(t, fmt.Sprint("waiter ", i), *held.Creator)
			require.True(t, deleted.Equal(held.CreatedAt))
			require.Equal(t, time.Minute, held.ExpiresAt.Sub(held.CreatedAt), "until renewed")
			for _, later := range line[i+1:] {
				require.True(t, later.pending())
			}
		}
	})
}

func TestAFreeNameIsNotQueuedFor(t *testing.T) {
	b := start(t)
	r := b.do(201, "POST", "/v1/locks", createBody("robot-arm-1", ""), "Prefer", "wait=30")
	require.Empty(t, r.header.Get("Preference-Applied"))
	require.Equal(t, "30", r.header.Get("Relukko-Wait"))
	l := r.lock(t)
	require.Equal(t, 10*time.Minute, l.ExpiresAt.Sub(l.CreatedAt))
}

func TestWaitEnds(t *testing.T) {
	for prefer, want := range map[string]time.Duration{
		"wait=1":                                1 * time.Second,
		"WAIT=7":                                7 * time.Second,
		"wait=30":                               30 * time.Second,
		"wait=31":                               30 * time.Second,
		"wait=99999999999999999999999":          30 * time.Second,
		"respond-async, wait=4; x=y, handling=": 4 * time.Second,
		`note="a, wait=9; \" ,", wait = "6"`:    6 * time.Second,
		"wait=2, wait=9":                        2 * time.Second,
		"":                                      0,
		"wait":                                  0,
		"wait=0":                                0,
		"wait=-5":                               0,
		"wait=1.5":                              0,
		"await=5":                               0,
		`note="wait=5`:                          0,
	} {
		t.Run(prefer, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t)
				held := b.create("robot-arm-1", "")
				asked := time.Now()
				r := b.do(409, "POST", "/v1/locks", createBody("robot-arm-1", ""), "Prefer", prefer)
				require.Equal(t, want, time.Since(asked))
				require.Equal(t, "30", r.header.Get("Relukko-Wait"))
				if want > 0 {
					require.Equal(t, "wait", r.header.Get("Preference-Applied"))
				} else {
					require.Empty(t, r.header.Get("Preference-Applied"))
				}
				require.Contains(t, r.body, `"lock":{"id":"`+held.ID+`"`)
				b.delete(held.ID)
				b.create("robot-arm-1", "") // nobody is in line any more
			})
		})
	}
}

func TestSeveralPreferHeaders(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		b.create("robot-arm-1", "")
		conn, answer := b.raw("POST /v1/locks HTTP/1.1\nHost: x\nX-API-KEY: " + apiKey +
			"\nPrefer: respond-async\nPrefer: wait=3\nContent-Length: 27\n\n" +
			`{"lock_name":"robot-arm-1"}`)
		asked := time.Now()
		status, err := answer.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 409 Conflict\r\n", status)
		require.Equal(t, 3*time.Second, time.Since(asked))
		conn.Close()
	})
}

func TestACallerWhoIsGoneLeavesTheLine(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		held := b.create("robot-arm-1", "")
		first, second := b.wait("robot-arm-1", "first", 30), (*waiting)(nil)
		synctest.Wait()
		second = b.wait("robot-arm-1", "second", 30)
		synctest.Wait()
		first.cancel()
		synctest.Wait()
		require.Equal(t, 1, *b.do(200, "GET", "/v1/locks/"+held.ID+"?waiters=1", "").lock(
			t).Waiters)
		b.delete(held.ID)
		synctest.Wait()
		require.Equal(t, "second", *second.granted(t).Creator)
	})
}

func TestAPlainCreateNeverOvertakes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := newGate()
		b := startOn(t, st)
		held := b.create("robot-arm-1", "")
		w := b.wait("robot-arm-1", "waiter", 30)
		synctest.Wait()
		require.Contains(t, b.do(409, "POST", "/v1/locks", createBody("robot-arm-1", "")).body,
			held.ID)

		st.stop("waiter")
		deleted := make(chan reply, 1)
		go func() { deleted <- b.send(t.Context(), "DELETE", "/v1/locks/"+held.ID, "") }()
		synctest.Wait()
		// The name is free now, but not for a client that comes just now.
		plain := make(chan reply, 1)
		go func() {
			plain <- b.send(t.Context(), "POST", "/v1/locks", createBody("robot-arm-1", ""))
		}()
		synctest.Wait()
		require.Empty(t, plain, "it is not known who gets the name")
		late := b.wait("robot-arm-1", "late", 30)
		synctest.Wait()
		st.release()
		synctest.Wait()
		require.Equal(t, 200, (<-deleted).status)
		next := w.granted(t)
		require.Equal(t, "waiter", *next.Creator)
		r := <-plain
		require.Equal(t, 409, r.status)
		require.Contains(t, r.body, next.ID)
		require.True(t, late.pending())
	})
}

// TestAWaiterWhoseTimeIsUpWhileItIsGranted gets the lock that is being made for it. Told that the
// name is held, and by which lock, its client would take that lock for its own.
func TestAWaiterWhoseTimeIsUpWhileItIsGranted(t *testing.T) {
	for name, c := range map[string]struct {
		fails  error
		status int
		then   string // who has the lock
	}{
		"and gets it":                  {nil, 201, "first #k3v5x2m4q7ab"},
		"and somebody else has got it": {store.ErrHeld, 409, ""},
		"and the store is gone":        {store.ErrUnavailable, 503, ""},
		"and its create was cancelled": {store.ErrCancelled, 410, "second"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := newGate()
				st.err = c.fails
				b := startOn(t, st)
				held := b.create("robot-arm-1", "")
				first := b.wait("robot-arm-1", "first #k3v5x2m4q7ab", 10)
				synctest.Wait()
				b.wait("robot-arm-1", "second", 30)
				synctest.Wait()
				st.stop("first #k3v5x2m4q7ab")
				go b.send(t.Context(), "DELETE", "/v1/locks/"+held.ID, "")
				time.Sleep(11 * time.Second)
				synctest.Wait()
				require.True(t, first.pending())
				st.release()
				synctest.Wait()
				require.Equal(t, c.status, (<-first.reply).status)
				var holders []string
				for _, l := range b.locks() {
					holders = append(holders, *l.Creator)
				}
				if c.then == "" {
					require.Empty(t, holders)
				} else {
					require.Equal(t, []string{c.then}, holders)
				}
			})
		})
	}
}

// TestAGrantForSomebodyGoneIsHandedOn: it leaves, or is cancelled, while the store makes its lock.
func TestAGrantForSomebodyGoneIsHandedOn(t *testing.T) {
	for _, how := range []string{"disconnects", "is cancelled"} {
		t.Run(how, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := newGate()
				b := startOn(t, st)
				watch := b.watch()
				held := b.create("robot-arm-1", "")
				creator := "first #k3v5x2m4q7ab"
				if how == "disconnects" {
					creator = "first" // by a mark it may have found it
				}
				first := b.wait("robot-arm-1", creator, 10)
				synctest.Wait()
				second := b.wait("robot-arm-1", "second", 30)
				synctest.Wait()
				st.stop(creator)
				go b.send(t.Context(), "DELETE", "/v1/locks/"+held.ID, "")
				synctest.Wait()
				switch how {
				case "disconnects":
					first.cancel()
				case "is cancelled":
					b.cancel(mark)
					synctest.Wait()
					require.Equal(t, 410, (<-first.reply).status)
				}
				synctest.Wait()
				require.True(t, second.pending())
				watch.take()
				st.release()
				synctest.Wait()
				require.Equal(t, "second", *second.granted(t).Creator)
				require.Len(t, b.locks(), 1)
				require.Len(t, watch.take(), 1, "the store refuses to make a lock for the first")
			})
		})
	}
}

func TestTooManyWaiters(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithMaxWaiters(3))
		for i := range 3 {
			b.create(fmt.Sprint("lock ", i), "")
		}
		var line []*waiting
		for i := range 3 {
			line = append(line, b.wait(fmt.Sprint("lock ", i), "", 10))
		}
		synctest.Wait()
		r := b.do(503, "POST", "/v1/locks", createBody("lock 0", ""), "Prefer", "wait=10")
		require.Equal(t, "1", r.header.Get("Retry-After"))
		b.do(409, "POST", "/v1/locks", createBody("lock 0", "")) // who does not wait takes no place
		b.create("lock 3", "")
		line[1].cancel()
		synctest.Wait()
		line[1] = b.wait("lock 0", "", 10)
		synctest.Wait()
		require.True(t, line[1].pending())
	})
}

func TestASweepGrantsTheNext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithGrace(0))
		held := b.create("robot-arm-1", "")
		w := b.wait("robot-arm-1", "waiter", 30)
		b.do(200, "PUT", "/v1/locks/"+held.ID+"/keep_alive", `{"seconds":2}`)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.granted(t)
		time.Sleep(59 * time.Second)
		require.Len(t, b.locks(), 1)
		time.Sleep(2 * time.Second)
		require.Empty(t, b.locks(), "never renewed")
	})
}

// TestQueueUnderChaos: callers come, wait, go away, time out and cancel at random. Nobody holds a
// name together with another, nobody is forgotten, and nothing is left.
func TestQueueUnderChaos(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func chaos(t *testing.T, r *rand.Rand) {
	st := newGate()
	b := startOn(t, st)
	var wg sync.WaitGroup
	inside := make([]bool, 3)
	var mu sync.Mutex
	tokens := make([]uint64, 3)
	for i := range 60 {
		name, mark := r.IntN(3), fmt.Sprintf("k3v5x2m4qq%c%c", 'a'+i/26, 'a'+i%26)
		begin, patience := time.Duration(r.IntN(3000))*time.Millisecond, time.Duration(
			r.IntN(4000))*time.Millisecond
		patience += time.Duration(500+i) * time.Microsecond // never ends at the instant of a grant
		work := time.Duration(r.IntN(300)) * time.Millisecond
		seconds := r.IntN(6)
		calling := r.IntN(3) > 0
		wg.Go(func() {
			time.Sleep(begin)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			got := b.send(ctx, "POST", "/v1/locks", createBody(
				fmt.Sprint("lock ", name), "x #"+mark), "Prefer", fmt.Sprint("wait=", seconds))
			if got.err != nil || got.status != 201 {
				if got.err == nil && got.status != 409 {
					t.Error(got)
				}
				if calling {
					b.cancel(mark)
				}
				return
			}
			l := got.lock(t)
			mu.Lock()
			if inside[name] {
				t.Error("two inside")
			}
			inside[name] = true
			if *l.FencingToken <= tokens[name] {
				t.Error("a token that does not rise")
			}
			tokens[name] = *l.FencingToken
			mu.Unlock()
			time.Sleep(work)
			mu.Lock()
			inside[name] = false
			mu.Unlock()
			b.delete(l.ID)
		})
	}
	wg.Wait()
	synctest.Wait()
	require.Empty(t, b.locks(), "an answer is written at once here, so who goes away never had it")
	time.Sleep(6 * time.Minute) // for which plain clients that were refused keep their ranks
	for i := range 3 {
		b.create(fmt.Sprint("lock ", i), "")
	}
}

// gate is a store whose Create can be stopped for one creator.
type gate struct {
	store.Store
	mu      sync.Mutex
	creator string
	open    chan struct{}
	err     error // that it then ends with
}

func newGate() *gate { return &gate{Store: twoSteps{memstore.New()}} }

// stop has the next Create of that creator wait until release.
func (g *gate) stop(creator string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.creator, g.open = creator, make(chan struct{})
}

func (g *gate) release() { close(g.open) }

func (g *gate) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	g.mu.Lock()
	stopped := g.open != nil && in.Creator != nil && *in.Creator == g.creator
	g.mu.Unlock()
	if stopped {
		<-g.open
		if g.err != nil {
			return store.Lock{}, g.err
		}
	}
	return g.Store.Create(ctx, in)
}
