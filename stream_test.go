package relukko_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

const (
	streamTTL   = 10 * time.Second
	shortOutage = streamTTL/2 - time.Millisecond
	silenceEnds = 66 * time.Second // a minute, and one attempt with plain requests
)

// TestStreamAcquiresInAShortOutage has a Lock that begins while something happens to its stream.
func TestStreamAcquiresInAShortOutage(t *testing.T) {
	kinds := []string{"hello", "acquire", "grant"}
	onStream(t, streamFaults, kinds, func(t *testing.T, n *streamNet, f *streamFault, at string) {
		n.arm(f, at, shortOutage)
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
		held := requireWithin(t, 20*time.Second, lockSoon(t, m))
		require.True(t, n.disarm())
		<-n.healed
		time.Sleep(time.Minute)
		require.NoError(t, held.Err(), "%v", context.Cause(held))
		require.NoError(t, m.Unlock(held))
		n.close(t)
	})
}

// TestStreamMissesNoWakeUp has something happen while a Lock waits, or when it is granted.
func TestStreamMissesNoWakeUp(t *testing.T) {
	kinds := []string{"acquire", "waiting", "ping", "pong"}
	onStream(t, streamFaults, kinds, func(t *testing.T, n *streamNet, f *streamFault, at string) {
		link := n.server.NewLink()
		other := relukko.NewMutex(link.Client(), "arm")
		held := lock(t, other)
		n.arm(f, at, shortOutage)
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
		acquired := lockSoon(t, m)
		<-n.struck
		<-n.healed
		time.Sleep(time.Second)
		later := relukko.NewMutex(link.Client(), "arm")
		next := lockSoon(t, later)
		time.Sleep(29 * time.Second)
		require.NoError(t, held.Err(), "%v", context.Cause(held))
		require.NoError(t, other.Unlock(held))
		held = requireWithin(t, 2*time.Second, acquired)
		time.Sleep(time.Minute)
		require.NoError(t, held.Err(), "%v", context.Cause(held))
		require.Empty(t, next, "a later one waits")
		require.NoError(t, m.Unlock(held))
		require.NoError(t, later.Unlock(requireWithin(t, time.Second, next)))
		n.close(t)
	})
}

// TestStreamMissesNoGrant has something happen when a Lock that has waited is granted, for a time
// that is shorter or longer than half of the lease.
func TestStreamMissesNoGrant(t *testing.T) {
	for _, lasts := range []time.Duration{100 * time.Millisecond, shortOutage, 30 * time.Second} {
		t.Run(lasts.String(), func(t *testing.T) {
			kinds := []string{"grant"}
			onStream(t, streamFaults, kinds, func(
				t *testing.T, n *streamNet, f *streamFault, at string,
			) {
				other := relukko.NewMutex(n.server.NewLink().Client(), "arm")
				held := lock(t, other)
				m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
				acquired := lockSoon(t, m)
				time.Sleep(3 * time.Second)
				n.arm(f, at, lasts)
				err := other.Unlock(held)
				if lasts <= shortOutage || !errors.Is(err, relukko.ErrNotReleased) {
					require.NoError(t, err) // else the answer was lost with the grant
				}
				<-n.struck
				held = requireWithin(t, lasts+20*time.Second, acquired)
				<-n.healed
				time.Sleep(time.Minute)
				if lasts <= shortOutage {
					require.NoError(t, held.Err(), "%v", context.Cause(held))
				}
				err = m.Unlock(held)
				if held.Err() == nil {
					require.NoError(t, err)
				}
				n.close(t)
			})
		})
	}
}

// TestShortOutageOfTheStreamLosesNothing has something happen when a lock is renewed.
func TestShortOutageOfTheStreamLosesNothing(t *testing.T) {
	kinds := []string{"renew", "renewed"}
	onStream(t, streamFaults, kinds, func(t *testing.T, n *streamNet, f *streamFault, at string) {
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
		held := lock(t, m)
		for range 3 {
			n.arm(f, at, shortOutage)
			<-n.struck
			<-n.healed
			time.Sleep(30 * time.Second)
			require.NoError(t, held.Err(), "%v", context.Cause(held))
		}
		require.NoError(t, m.Unlock(held))
		n.close(t)
	})
}

// TestReleaseIsRetriedOverTheStream has something happen when a lock is released.
func TestReleaseIsRetriedOverTheStream(t *testing.T) {
	kinds := []string{"release", "done"}
	onStream(t, streamFaults, kinds, func(t *testing.T, n *streamNet, f *streamFault, at string) {
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
		held := lock(t, m)
		time.Sleep(5 * time.Second)
		n.arm(f, at, shortOutage)
		start := time.Now()
		require.NoError(t, m.Unlock(held))
		require.Less(t, time.Since(start), 10*time.Second)
		<-n.healed
		require.Empty(t, n.server.Locks())
		require.NoError(t, m.Unlock(lock(t, m)))
		n.close(t)
	})
}

// TestUnlockTellsTheTruthAboutTheStream has something happen for longer than Unlock waits.
func TestUnlockTellsTheTruthAboutTheStream(t *testing.T) {
	onStream(t, streamFaults, []string{"release"}, func(
		t *testing.T, n *streamNet, f *streamFault, at string,
	) {
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(30*time.Second))
		held := lock(t, m)
		time.Sleep(15 * time.Second)
		n.arm(f, at, 12*time.Second)
		start := time.Now()
		err := m.Unlock(held)
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
		if err == nil {
			require.Empty(t, n.server.Locks())
		} else {
			require.ErrorIs(t, err, relukko.ErrNotReleased)
		}
		<-n.healed
		n.close(t)
	})
}

// endless are faults during which no request is answered in any way.
var endless = []streamFault{
	{name: "the network is dark",
		begin: (*relukkotest.Server).GoDark, end: (*relukkotest.Server).ComeBack},
	{name: "the server is down", begin: (*relukkotest.Server).Stop,
		end: func(s *relukkotest.Server) { s.Start(true) }},
	{name: "a proxy responds to everything", fate: faultnet.CutAfter,
		begin: func(s *relukkotest.Server) { s.AnswerNext(-1, anyRequest, proxyPage) },
		end:   (*relukkotest.Server).Heal},
	{name: "503 to everything", fate: faultnet.CutBefore,
		begin: func(s *relukkotest.Server) {
			s.AnswerNext(-1, anyRequest, relukkotest.Answer{Status: 503})
		},
		end: (*relukkotest.Server).Heal},
	{name: "nothing arrives at the server", fate: faultnet.DarkUp, others: faultnet.DarkUp,
		begin: func(s *relukkotest.Server) { s.Hold(nil) }, end: (*relukkotest.Server).Heal},
	{name: "nothing arrives at the client", fate: faultnet.DarkDown, others: faultnet.DarkDown,
		begin: func(s *relukkotest.Server) { s.HoldReplies(nil) }, end: (*relukkotest.Server).Heal},
}

// TestLossOverTheStreamIsKnownBeforeExpiry takes everything away when a lock is renewed.
func TestLossOverTheStreamIsKnownBeforeExpiry(t *testing.T) {
	kinds := []string{"renew", "renewed"}
	onStream(t, endless, kinds, func(t *testing.T, n *streamNet, f *streamFault, at string) {
		for _, before := range []time.Duration{0, 2 * time.Second, 33 * time.Second} {
			m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
			held := lock(t, m)
			time.Sleep(before)
			require.NoError(t, held.Err())
			n.arm(f, at, 30*time.Second)
			<-n.struck
			<-held.Done()
			requireLost(t, held, relukko.LossUnreachable)
			if locks := n.server.Locks(); len(locks) > 0 { // else the sweep has had it
				require.True(t, time.Now().Before(locks[0].ExpiresAt))
			}
			<-n.healed
			require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
			time.Sleep(30 * time.Second)
		}
		n.close(t)
	})
}

// TestLossOverTheStreamAtAnyInstantIsKnownBeforeExpiry takes everything away at a random instant.
func TestLossOverTheStreamAtAnyInstantIsKnownBeforeExpiry(t *testing.T) {
	for i, f := range endless {
		for j := range 20 {
			rnd := rand.New(rand.NewPCG(uint64(i), uint64(j)))
			ttl := time.Duration(2+rnd.IntN(4)) * time.Second
			before := time.Duration(rnd.Int64N(int64(20 * time.Second)))
			name := fmt.Sprintf("%s/%v after %v", f.name, ttl, before)
			bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
				n := newStreamNet(t, s)
				m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(ttl))
				held := lock(t, m)
				time.Sleep(before)
				require.NoError(t, held.Err())
				n.strike(&f, 30*time.Second)
				<-held.Done()
				requireBeforeExpiry(t, s)
				requireLost(t, held, relukko.LossUnreachable)
				<-n.healed
				require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
				n.close(t)
			})
		}
	}
}

// TestShortOutageOfTheStreamAtAnyInstantLosesNothing has something happen at random instants.
func TestShortOutageOfTheStreamAtAnyInstantLosesNothing(t *testing.T) {
	for i, f := range append(slices.Clone(streamFaults), endless...) {
		for j := range 10 {
			rnd := rand.New(rand.NewPCG(uint64(i), uint64(j)))
			ttl := time.Duration(4+rnd.IntN(20)) * time.Second
			before := time.Duration(rnd.Int64N(int64(2 * ttl)))
			name := fmt.Sprintf("%s/%v after %v", f.name, ttl, before)
			bubble(t, name, func(t *testing.T, s *relukkotest.Server) {
				n := newStreamNet(t, s)
				m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(ttl))
				held := lock(t, m)
				for range 3 {
					time.Sleep(before)
					n.strike(&f, ttl/2-time.Millisecond)
					<-n.healed
				}
				time.Sleep(time.Minute)
				require.NoError(t, held.Err(), "%v", context.Cause(held))
				require.NoError(t, m.Unlock(held))
				n.close(t)
			})
		}
	}
}

// TestNothingHangsInSilenceOnTheStream takes everything away for ever while a Lock is under way.
func TestNothingHangsInSilenceOnTheStream(t *testing.T) {
	kinds := []string{"hello", "acquire", "grant"}
	onStream(t, endless, kinds, func(t *testing.T, n *streamNet, f *streamFault, at string) {
		n.arm(f, at, 2*time.Minute)
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
		start := time.Now()
		held, err := m.Lock(t.Context())
		require.LessOrEqual(t, time.Since(start), silenceEnds)
		passed := at == "grant" && (f.fate == faultnet.Pass || f.fate == faultnet.CutAfter ||
			f.fate == faultnet.DarkUp)
		require.Equal(t, passed, err == nil, "%v", err)
		<-n.healed
		if passed {
			require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		}
		require.NoError(t, m.Unlock(lock(t, m)))
		n.close(t)
	})
}

// TestNothingHangsInSilenceWhileOnlyTheStreamIsDown never heals the stream: plain requests work.
func TestNothingHangsInSilenceWhileOnlyTheStreamIsDown(t *testing.T) {
	kinds := []string{"hello", "acquire", "grant"}
	onStream(t, onlyTheStream(), kinds, func(
		t *testing.T, n *streamNet, f *streamFault, at string,
	) {
		n.arm(f, at, 20*time.Minute)
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
		held := requireWithin(t, 25*time.Second, lockSoon(t, m))
		time.Sleep(2 * time.Minute)
		require.NoError(t, held.Err(), "%v", context.Cause(held))
		require.NoError(t, m.Unlock(held))
		n.close(t)
	})
}

// onlyTheStream are the faults of streamFaults that plain requests do not meet.
func onlyTheStream() []streamFault {
	return slices.DeleteFunc(slices.Clone(streamFaults), func(f streamFault) bool {
		return f.fate == faultnet.Pass || f.name == "a proxy responds to everything"
	})
}

// TestNoMissedWakeUpWhileOnlyTheStreamIsDown never heals the stream of a Lock that waits.
func TestNoMissedWakeUpWhileOnlyTheStreamIsDown(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
		t.Run(fmt.Sprint("released after ", after), func(t *testing.T) {
			kinds := []string{"waiting", "pong"}
			onStream(t, onlyTheStream(), kinds, func(
				t *testing.T, n *streamNet, f *streamFault, at string,
			) {
				other := relukko.NewMutex(n.server.NewLink().Client(), "arm")
				held := lock(t, other)
				n.arm(f, at, 5*time.Minute)
				m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
				acquired := lockSoon(t, m)
				<-n.struck
				time.Sleep(after)
				require.NoError(t, other.Unlock(held))
				held = requireWithin(t, 25*time.Second, acquired)
				time.Sleep(15 * time.Minute) // the stream comes back meanwhile
				require.NoError(t, held.Err(), "%v", context.Cause(held))
				require.NoError(t, m.Unlock(held))
				n.close(t)
			})
		})
	}
}

// TestTryLockReturnsWhateverHappensToTheStream also requires that it leaves nothing.
func TestTryLockReturnsWhateverHappensToTheStream(t *testing.T) {
	faults := append(slices.Clone(streamFaults), endless...)
	kinds := []string{"hello", "acquire", "error"}
	onStream(t, faults, kinds, func(t *testing.T, n *streamNet, f *streamFault, at string) {
		other := relukko.NewMutex(n.server.NewLink().Client(), "arm", relukko.WithTTL(time.Hour))
		held := lock(t, other)
		n.arm(f, at, 2*time.Minute)
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
		start := time.Now()
		_, err := m.TryLock(t.Context())
		require.Error(t, err)
		require.LessOrEqual(t, time.Since(start), silenceEnds)
		<-n.healed
		require.NoError(t, other.Unlock(held))
		time.Sleep(time.Minute)
		held, err = m.TryLock(t.Context())
		require.NoError(t, err)
		require.NoError(t, m.Unlock(held))
		n.close(t)
	})
}

// TestShutdownEndsWhateverHappensToTheStream has a Lock that is held, one that waits and one that
// was cancelled.
func TestShutdownEndsWhateverHappensToTheStream(t *testing.T) {
	faults := append(slices.Clone(streamFaults), endless...)
	kinds := []string{"cancel", "renew"}
	onStream(t, faults, kinds, func(t *testing.T, n *streamNet, f *streamFault, at string) {
		other := relukko.NewMutex(n.server.NewLink().Client(), "arm", relukko.WithTTL(time.Hour))
		otherHeld := lock(t, other)
		m := relukko.NewMutex(n.client, "held", relukko.WithTTL(streamTTL))
		held := lock(t, m)
		errs := make(chan error, 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, ctx := range []context.Context{ctx, t.Context()} {
			waits := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
			go func() {
				_, err := waits.Lock(ctx)
				errs <- err
			}()
		}
		time.Sleep(time.Second)
		n.arm(f, at, 5*time.Minute)
		cancel()
		require.ErrorIs(t, <-errs, context.Canceled)
		<-n.struck
		limited, stop := context.WithTimeout(t.Context(), 7*time.Second)
		defer stop()
		start := time.Now()
		err := n.client.Shutdown(limited)
		require.Error(t, err, "a lock is held")
		require.Less(t, time.Since(start), 8*time.Second)
		require.ErrorContains(t, <-errs, "closed")
		require.Error(t, held.Err())
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		<-n.healed
		time.Sleep(time.Minute)
		if otherHeld.Err() == nil {
			require.NoError(t, other.Unlock(otherHeld))
		}
		time.Sleep(2 * time.Minute)
		require.Empty(t, n.server.Locks(), "the leases of the abandoned ones have ended")
	})
}

// TestNoOrphansOnTheStream cancels a Lock at some instants after something has happened to it.
func TestNoOrphansOnTheStream(t *testing.T) {
	kinds := []string{"hello", "acquire", "waiting", "grant"}
	for _, after := range []time.Duration{0, time.Millisecond, time.Second, 4 * time.Second,
		shortOutage + time.Second, 12 * time.Second} {
		t.Run(fmt.Sprint("cancelled after ", after), func(t *testing.T) {
			onStream(t, streamFaults, kinds, func(
				t *testing.T, n *streamNet, f *streamFault, at string,
			) {
				testCancel(t, n, f, at, after)
			})
		})
	}
}

func testCancel(
	t *testing.T, n *streamNet, f *streamFault, at string, after time.Duration,
) {
	var free func()
	if at == "waiting" {
		other := relukko.NewMutex(n.server.NewLink().Client(), "arm")
		held := lock(t, other)
		free = func() { require.NoError(t, other.Unlock(held)) }
	}
	n.arm(f, at, shortOutage)
	ctx, cancel := context.WithCancel(t.Context())
	var cancelled time.Time
	var cancels sync.WaitGroup
	cancels.Go(func() {
		<-n.struck
		time.Sleep(after)
		cancelled = time.Now()
		cancel()
	})
	m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
	held, err := m.Lock(ctx)
	if err != nil {
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, cancelled, time.Now(), "Lock returns promptly")
	} else {
		require.NoError(t, m.Unlock(held))
	}
	cancels.Wait()
	<-n.healed
	if free != nil {
		time.Sleep(time.Second)
		free()
	}
	n.close(t)
}

// TestDeletedUnderTheHolderOfAStream deletes a lock while something happens to its stream.
func TestDeletedUnderTheHolderOfAStream(t *testing.T) {
	kinds := []string{"renew", "renewed", "deleted"}
	onStream(t, streamFaults, kinds, func(t *testing.T, n *streamNet, f *streamFault, at string) {
		m := relukko.NewMutex(n.client, "arm", relukko.WithTTL(streamTTL))
		held := lock(t, m)
		time.Sleep(5 * time.Second)
		n.arm(f, at, shortOutage)
		if at != "deleted" {
			<-n.struck
		}
		for !n.server.Delete("arm") { // the server is down
			time.Sleep(time.Second)
		}
		other := relukko.NewMutex(n.server.NewLink().Client(), "arm")
		<-held.Done()
		<-n.healed
		require.ErrorIs(t, m.Unlock(held), relukko.ErrLockLost)
		require.NoError(t, other.Unlock(lock(t, other)))
		n.close(t)
	})
}
