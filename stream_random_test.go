package relukko_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

var streamSeeds = flag.Int("stream-seeds", 20, "how many runs TestRandomFaultsOnTheStream has")

// TestRandomFaultsOnTheStream has clients contend for two names, for any or all of them, while
// connections end at random messages, calls are cancelled at random instants, and other things
// happen to the server.
func TestRandomFaultsOnTheStream(t *testing.T) {
	for seed := range uint64(*streamSeeds) {
		bubble(t, fmt.Sprint("messages/", seed), func(t *testing.T, s *relukkotest.Server) {
			w := newWorkers(t, s, seed)
			w.pools = seed%2 == 1
			w.run(t)
			w.check(t)
		})
		bubble(t, fmt.Sprint("the server too/", seed), func(t *testing.T, s *relukkotest.Server) {
			w := newWorkers(t, s, seed)
			w.unsure, w.deletes, w.pools = true, seed%2 == 1, seed%4 > 1
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

// workers are clients whose connections end at random messages.
type workers struct {
	server   *relukkotest.Server
	nets     []*streamNet
	rnd      *rand.Rand
	inside   map[string]*occupants
	quiet    atomic.Bool
	pools    bool // half of the workers want any one of the names
	unsure   bool // locks may be lost
	deletes  bool // locks are deleted, so that sections overlap until that is known
	acquired atomic.Int64
	lost     atomic.Int64
}

func newWorkers(t *testing.T, s *relukkotest.Server, seed uint64) *workers {
	t.Helper()
	w := &workers{server: s, rnd: rand.New(rand.NewPCG(seed, 1)),
		inside: map[string]*occupants{"arm-0": {}, "arm-1": {}}}
	fates := []faultnet.Fate{faultnet.CutBefore, faultnet.CutAfter, faultnet.VanishBefore,
		faultnet.VanishAfter, faultnet.DarkUp, faultnet.DarkDown, faultnet.Dark}
	for i := range uint64(4) {
		n := newStreamNet(t, s)
		w.nets = append(w.nets, n)
		faults := rand.New(rand.NewPCG(seed, 2+i))
		n.Each(func([]byte, bool) faultnet.Fate {
			n.mu.Lock()
			defer n.mu.Unlock()
			if w.quiet.Load() || faults.IntN(15) > 0 {
				return faultnet.Pass
			}
			return fates[faults.IntN(len(fates))]
		})
	}
	return w
}

const workerCalls = 60

// run has the workers lock, each with its time limit.
func (w *workers) run(t *testing.T) {
	var working sync.WaitGroup
	for i := range workerCalls {
		arms := []string{"arm-0", "arm-1"}
		first := w.rnd.IntN(2)
		c := w.nets[i%len(w.nets)].client
		var m locker = relukko.NewMutex(c, arms[first], relukko.WithTTL(streamTTL))
		both := []string{arms[first], arms[1-first]}
		switch {
		case i%5 == 2:
			m = relukko.NewMultiMutex(c, both, relukko.WithTTL(streamTTL))
		case w.pools && i%2 == 0:
			m = relukko.NewPool(c, both, relukko.WithTTL(streamTTL))
		}
		start := time.Duration(w.rnd.IntN(30_000)) * time.Millisecond
		hold := time.Duration(w.rnd.IntN(3000)) * time.Millisecond
		limit := time.Duration(w.rnd.IntN(20_000)) * time.Millisecond
		switch i % 6 {
		case 0, 3:
			limit = time.Hour
		case 1:
			hold *= 5
		}
		working.Go(func() {
			time.Sleep(start)
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			w.section(t, ctx, m, hold)
		})
	}
	working.Wait()
}

// section locks m for a time, or until it is lost.
func (w *workers) section(t *testing.T, ctx context.Context, m locker, hold time.Duration) {
	held, err := m.Lock(ctx)
	if err != nil {
		if late := time.Since(deadline(ctx)); late != 0 {
			t.Errorf("returned %v after the end: %v", late, err)
		}
		return
	}
	w.acquired.Add(1)
	lock := session(t, held)
	names := strings.Split(lock.Name(), ", ")
	for _, name := range names {
		w.inside[name].enter()
	}
	select {
	case <-time.After(hold):
	case <-lock.Done():
		w.lost.Add(1)
		for _, l := range w.server.Locks() {
			ours := slices.ContainsFunc(lock.Locks(), func(o api.Lock) bool { return o.ID == l.ID })
			if ours && !time.Now().Before(l.ExpiresAt) {
				t.Errorf("the loss is known after the expiry")
			}
		}
	}
	for _, name := range names {
		w.inside[name].leave()
	}
	err = m.Unlock(held)
	known := errors.Is(err, relukko.ErrLockLost) || errors.Is(err, relukko.ErrNotReleased)
	if err != nil && !(w.unsure && known) {
		t.Errorf("Unlock: %v", err)
	}
}

// trouble has things happen to the server.
func (w *workers) trouble(ctx context.Context, rnd *rand.Rand) {
	wait := func(most int) { time.Sleep(time.Duration(rnd.IntN(most)) * time.Millisecond) }
	s := w.server
	for ctx.Err() == nil {
		wait(8000)
		switch rnd.IntN(7) {
		case 0:
			s.Start(true)
		case 1:
			s.Stop()
			wait(6000)
			s.Start(true)
		case 2:
			s.GoDark()
			wait(12_000)
			s.ComeBack()
		case 3:
			s.AnswerNext(-1, openStream, relukkotest.Answer{Status: 503})
			wait(15_000)
			s.Heal()
		case 4:
			s.RefuseWebSockets(true)
			s.DropWebSockets()
			wait(15_000)
			s.Heal()
		case 5:
			if w.deletes {
				s.Delete(fmt.Sprint("arm-", rnd.IntN(2)))
			}
		case 6:
			h := s.HoldReplies(nil)
			wait(6000)
			h.Release()
		}
	}
}

// check requires that no sections overlapped, and nothing is left behind.
func (w *workers) check(t *testing.T) {
	w.quiet.Store(true)
	for name, o := range w.inside {
		if w.deletes {
			break
		}
		require.LessOrEqual(t, o.most.Load(), int64(1), name)
	}
	t.Logf("%d of %d acquired, %d lost", w.acquired.Load(), workerCalls, w.lost.Load())
	require.GreaterOrEqual(t, w.acquired.Load(), int64(workerCalls/3))
	for _, n := range w.nets {
		require.NoError(t, n.client.Shutdown(t.Context()))
	}
	if w.unsure { // a lock whose release was not confirmed expires
		time.Sleep(time.Minute)
	}
	require.Empty(t, w.server.Locks())
}
