package relukko

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// slowDriver is a driver that leaves the responses to renewals to the test.
type slowDriver struct {
	acquire.Driver
	clock    clock.Clock
	renewals chan *renewal
	watches  int
}

// renewal is a renewal that was sent.
type renewal struct {
	retry  bool
	answer chan renewalAnswer
}

type renewalAnswer struct {
	length time.Duration // of the lease, or
	err    error
}

func (d *slowDriver) Clock() *clock.Clock { return &d.clock }

func (d *slowDriver) Watch(*acquire.Grant, acquire.Watcher) (stop func()) {
	d.watches++
	return sync.OnceFunc(func() { d.watches-- })
}

func (d *slowDriver) Renew(ctx context.Context, _ *acquire.Grant, _ time.Duration, retry bool,
) (api.Lock, error) {
	r := &renewal{retry, make(chan renewalAnswer, 1)}
	d.renewals <- r
	select {
	case a := <-r.answer:
		now := time.Now()
		return api.Lock{UpdatedAt: now, ExpiresAt: now.Add(a.length)}, a.err
	case <-ctx.Done():
		return api.Lock{}, ctx.Err()
	}
}

// fakeTenure stands for the session that uses a lease.
type fakeTenure struct{ cause chan error }

func (f *fakeTenure) finish(cause error) { f.cause <- cause }
func (f *fakeTenure) guardEnded() bool   { return false }
func (f *fakeTenure) want()              {}

// testLease is a lease that was granted at began, with its fakes.
type testLease struct {
	*lease
	*slowDriver
	*fakeTenure
	t     *testing.T
	began time.Time
}

// leased runs f in a synctest bubble, with a lease of this TTL that the backend has granted for
// this length.
func leased(t *testing.T, ttl, length time.Duration, f func(t *testing.T, l *testLease)) {
	bubble.Test(t, func(t *testing.T) {
		client, err := api.New("http://backend:3000", "s3cr3t")
		require.NoError(t, err)
		l := &testLease{
			slowDriver: &slowDriver{renewals: make(chan *renewal, 100)},
			fakeTenure: &fakeTenure{make(chan error, 2)},
			t:          t, began: time.Now(),
		}
		l.lease = &lease{target: &target{
			name: "arm", options: newOptions([]Option{WithTTL(ttl)}), client: client,
			tasks: lifecycle.Of(client), driver: l.slowDriver,
		}}
		require.NoError(t, l.tasks.Begin(l.lease))
		l.start(&acquire.Grant{
			Lock: api.Lock{ID: "1"}, Since: l.clock.Now(), Length: length, Values: t.Context(),
		}, l.fakeTenure)
		f(t, l)
		l.stop()
		synctest.Wait()
		require.Zero(t, l.watches)
		l.tasks.End(l.lease)
		require.NoError(t, client.Close())
	})
}

// at waits until d after the lease was granted.
func (l *testLease) at(d time.Duration) {
	l.t.Helper()
	require.GreaterOrEqual(l.t, d, time.Since(l.began))
	time.Sleep(time.Until(l.began.Add(d)))
	synctest.Wait()
}

// sent returns the first renewal that was sent and that sent has not returned yet.
func (l *testLease) sent() *renewal {
	l.t.Helper()
	require.NotEmpty(l.t, l.renewals)
	return <-l.renewals
}

func (l *testLease) reply(r *renewal, a renewalAnswer) {
	r.answer <- a
	synctest.Wait()
}

// ends requires that the lease ends at end, and the contexts early before that.
func (l *testLease) ends(end, early time.Duration) {
	l.t.Helper()
	l.lease.mu.Lock()
	defer l.lease.mu.Unlock()
	require.Equal(l.t, end, l.end().Time().Sub(l.began), "the end of the lease")
	require.Equal(l.t, early, end-time.Since(l.began)-l.left(), "the contexts end before")
}

var (
	noEffect     = &api.Error{Op: "keep alive", Status: 429, Own: true}
	maybe        = &api.Error{Op: "keep alive", Status: 503}
	errNoNetwork = errors.New("no network")
)

const sec = time.Second

func TestLeaseAfterAnUnansweredRenewal(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.ends(600*sec, 6*sec)
		l.at(sec)
		first := l.sent()
		require.False(t, first.retry)
		l.ends(61*sec, 6*sec) // in case it has taken effect
		require.Equal(t, 1, l.watches)

		l.at(sec + 9*sec) // a sixth of what was left
		second := l.sent()
		require.True(t, second.retry, "over another connection")
		l.ends(61*sec, 6*sec)

		l.reply(second, renewalAnswer{length: 60 * sec})
		l.ends(70*sec, 6*sec)
		l.at(11 * sec)
		l.reply(first, renewalAnswer{length: 60 * sec})
		l.ends(70*sec, 6*sec) // it was sent before
		require.NoError(t, l.state())
	})
}

func TestUnansweredRenewalNeverLengthensTheLease(t *testing.T) {
	leased(t, 60*sec, 10*sec, func(t *testing.T, l *testLease) {
		l.ends(10*sec, sec)
		l.at(sec)
		l.ends(10*sec, sec)
		require.Equal(t, l.began.Add(61*sec), l.latestEnd(), "in case it has taken effect")
		l.at(9*sec - 1)
		require.NoError(t, l.state())
		l.at(9 * sec)
		loss, _ := errors.AsType[*LostError](l.state())
		require.NotNil(t, loss)
		require.Equal(t, LossUnreachable, loss.Reason)
		require.Equal(t, l.began.Add(10*sec), loss.Deadline)
		require.Equal(t, l.state(), <-l.cause)
		require.ErrorContains(t, loss.Err, "no answer")
	})
}

func TestLeaseAfterAFailedRenewal(t *testing.T) {
	for name, tt := range map[string]struct {
		err error
		end time.Duration
	}{
		"without effect":            {noEffect, 600 * sec},
		"perhaps with effect":       {maybe, 61 * sec},
		"without an answer":         {errNoNetwork, 61 * sec},
		"no network, never a lease": {context.DeadlineExceeded, 61 * sec},
	} {
		t.Run(name, func(t *testing.T) {
			leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
				l.at(sec)
				l.reply(l.sent(), renewalAnswer{err: tt.err})
				l.ends(tt.end, 6*sec)
				l.at(2 * sec) // the next one is sent
				l.ends(min(tt.end, 62*sec), 6*sec)
				l.reply(l.sent(), renewalAnswer{length: 60 * sec})
				l.ends(62*sec, 6*sec)
			})
		})
	}
}

// A server that is too busy to renew locks gets fewer renewals, not one of each lock in a second.
// There is time for six more after each. One in four may reach another server.
func TestRenewalsThatFailBecomeFewer(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		sent, retries := 0, 0
		for time.Since(l.began) < 50*sec {
			r := l.sent()
			l.reply(r, renewalAnswer{err: maybe})
			last := time.Now()
			if sent++; r.retry {
				retries++
			}
			left := 55*sec - time.Since(l.began)
			for len(l.renewals) == 0 {
				time.Sleep(sec / 10)
				synctest.Wait()
			}
			require.LessOrEqual(t, time.Since(last), max(left/6, sec)+sec/10)
		}
		require.LessOrEqual(t, sent, 15)
		require.Equal(t, sent/4, retries)
	})
}

func TestRenewalWithoutEffectKeepsEarlierOnes(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		l.sent() // never answered
		l.at(10 * sec)
		l.reply(l.sent(), renewalAnswer{err: noEffect})
		l.ends(61*sec, 6*sec)
	})
}

func TestLeaseIsAsLongAsTheBackendSays(t *testing.T) {
	for name, tt := range map[string]struct {
		length     time.Duration
		end, early time.Duration
	}{
		"as asked for": {60 * sec, 61 * sec, 6 * sec},
		"longer":       {600 * sec, 61 * sec, 6 * sec},
		"shorter":      {20 * sec, 21 * sec, 2 * sec},
	} {
		t.Run(name, func(t *testing.T) {
			leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
				l.at(sec)
				r := l.sent()
				l.at(3 * sec)
				l.reply(r, renewalAnswer{length: tt.length})
				l.ends(tt.end, tt.early) // from before it was sent
			})
		})
	}
	for _, length := range []time.Duration{0, -time.Hour} {
		leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
			l.at(sec)
			l.reply(l.sent(), renewalAnswer{length: length})
			loss, _ := errors.AsType[*LostError](l.state())
			require.NotNil(t, loss)
			require.ErrorContains(t, loss.Err,
				"the backend renewed the lock with a lease of "+length.String())
		})
	}
}

// TestTwoRenewalsAtOneInstant: they have one expiry, which is no bound of the backend.
func TestTwoRenewalsAtOneInstant(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		first := l.sent()
		l.at(sec + 9*sec)
		second := l.sent()
		l.reply(first, renewalAnswer{length: 60 * sec})
		l.reply(second, renewalAnswer{length: 60 * sec})
		l.ends(70*sec, 6*sec)
		l.at(64 * sec)
		loss, _ := errors.AsType[*LostError](l.state())
		require.NotNil(t, loss)
		require.Equal(t, LossUnreachable, loss.Reason)
	})
}

func TestNextHeartbeatCountsFromSending(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		r := l.sent()
		l.at(7 * sec)
		l.reply(r, renewalAnswer{length: 60 * sec})
		l.at(19*sec - 1)
		require.Empty(t, l.renewals)
		l.at(21 * sec) // a third of the TTL
		l.sent()
	})
}

func TestHeartbeatsLeaveTimeForSlowAnswers(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		r := l.sent()
		l.at(16 * sec)
		l.sent() // meanwhile
		l.reply(r, renewalAnswer{length: 60 * sec})
		l.at(16*sec + minHeartbeat) // there is time for two more
		l.sent()
	})
}

func TestAttemptsAreSpacedSoThatEachCanSucceed(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		r := l.sent()
		l.at(7 * sec) // answers take 6 s
		l.reply(r, renewalAnswer{length: 60 * sec})
		l.at(10 * sec)
		l.check()
		l.at(22*sec - 1)
		l.sent()
		require.Empty(t, l.renewals)
		l.at(22 * sec) // twice as long after the first one
		require.False(t, l.sent().retry, "answers are slow, none is overdue")
	})
}

func TestOverdueRenewalIsRetriedOverAnotherConnection(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		require.False(t, l.sent().retry)
		l.at(10 * sec)
		require.True(t, l.sent().retry)
		l.at(20 * sec)
		require.False(t, l.sent().retry, "in turns, since new connections may hang")
	})
}

func TestOldestOfManyRenewalsIsGivenUp(t *testing.T) {
	leased(t, 20*sec, 200*sec, func(t *testing.T, l *testLease) {
		l.at(15 * sec)
		var sent []*renewal
		for len(l.renewals) > 0 {
			sent = append(sent, l.sent())
		}
		old := len(sent) - maxOpen
		require.Positive(t, old)
		l.reply(sent[old-1], renewalAnswer{length: 20 * sec})
		l.ends(21*sec, 2*sec) // nobody waits for that answer any more
		l.reply(sent[old], renewalAnswer{length: 20 * sec})
		l.lease.mu.Lock()
		defer l.lease.mu.Unlock()
		require.Greater(t, l.end().Time().Sub(l.began), 21*sec)
	})
}

func TestFailureWithoutTimeForAnotherAttempt(t *testing.T) {
	var log bytes.Buffer
	leased(t, 60*sec, 10*sec, func(t *testing.T, l *testLease) {
		l.log = slog.New(slog.NewTextHandler(&log, nil))
		l.at(sec)
		r := l.sent()
		l.at(9*sec - 500*time.Millisecond)
		l.reply(r, renewalAnswer{err: errNoNetwork})
		l.at(9 * sec)
		require.ErrorIs(t, l.state(), ErrLockLost)
	})
	require.NotContains(t, log.String(), "retrying")
}

func TestWallClockSetForwardCountsAsTime(t *testing.T) {
	leased(t, 60*sec, 60*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		l.reply(l.sent(), renewalAnswer{length: 60 * sec})
		l.at(5*sec + 1)
		l.clock.Ahead.Store(int64(30 * sec))
		l.lease.mu.Lock()
		left := l.left()
		l.lease.mu.Unlock()
		require.Equal(t, 61*sec-6*sec-30*sec-5*sec-1, left)
		require.Empty(t, l.renewals)

		l.at(6 * sec) // the clocks are compared again
		r := l.sent()
		l.lease.mu.Lock()
		left = l.left()
		l.lease.mu.Unlock()
		require.Equal(t, confirmJump, left)
		l.at(6*sec + 500*time.Millisecond)
		l.reply(r, renewalAnswer{length: 60 * sec})
		l.ends(66*sec, 6*sec) // counted from the new renewal
		l.at(8 * sec)
		require.NoError(t, l.state())
	})
}

func TestLeaseEndsIfAJumpIsNotConfirmed(t *testing.T) {
	leased(t, 60*sec, 60*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		l.reply(l.sent(), renewalAnswer{length: 60 * sec})
		l.at(5*sec + 1)
		l.clock.Ahead.Store(int64(sec))
		l.at(7*sec - 1)
		require.NoError(t, l.state())
		l.at(7 * sec)
		require.ErrorIs(t, l.state(), ErrLockLost)
	})
}

func TestSuspendLongerThanTheLease(t *testing.T) {
	leased(t, 60*sec, 60*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		l.reply(l.sent(), renewalAnswer{length: 60 * sec})
		l.clock.Ahead.Store(int64(54 * sec))
		l.expire()
		require.ErrorIs(t, l.state(), ErrLockLost, "before any timer has fired")
	})
}

func TestWallClockSetBackAddsNoTime(t *testing.T) {
	leased(t, 60*sec, 60*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		l.reply(l.sent(), renewalAnswer{length: 60 * sec})
		l.clock.Ahead.Store(-int64(time.Hour))
		l.ends(61*sec, 6*sec)
		l.at(20*sec + sec) // a third of the TTL, at most
		l.ends(61*sec, 6*sec)
		l.at(55*sec - 1)
		require.NoError(t, l.state())
		l.at(55 * sec)
		require.ErrorIs(t, l.state(), ErrLockLost)
	})
}

func TestRenewalAcrossAWallClockSetBack(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		l.sent() // never answered; it may have shortened the lease
		l.clock.Ahead.Store(-int64(time.Hour))
		l.at(10 * sec)
		l.reply(l.sent(), renewalAnswer{err: maybe})
		l.ends(61*sec, 6*sec)
		l.clock.Ahead.Store(0)
		l.ends(61*sec, 6*sec)
	})
}

func TestEarlierOfTwoLeasesOnEachClock(t *testing.T) {
	leased(t, 60*sec, 60*sec, func(t *testing.T, l *testLease) {
		l.lease.mu.Lock()
		defer l.lease.mu.Unlock()
		now := l.clock.Now()
		l.acked = now.Add(600 * sec)
		l.unacked = []clock.Instant{now, now.Add(10 * sec)}
		require.Equal(t, now.Add(60*sec), l.end(), "the first one may take effect last")
		l.unacked = l.unacked[1:]
		require.Equal(t, now.Add(70*sec), l.end())
		l.acked = now.Add(5 * sec)
		require.Equal(t, now.Add(5*sec), l.end())
		l.limit = now.Add(sec)
		require.Equal(t, -sec, l.left(), "6 s before the end, which is earlier than the limit")
		l.acked = now.Add(60 * sec)
		require.Equal(t, sec, l.left())
	})
}

// A proxy may answer for a backend that has carried the renewal out.
func TestForeignAnswerToARenewalMayHaveTakenEffect(t *testing.T) {
	leased(t, 60*sec, 600*sec, func(t *testing.T, l *testLease) {
		l.at(sec)
		l.reply(l.sent(), renewalAnswer{err: &api.Error{Status: 404}})
		l.ends(61*sec, 6*sec)
	})
}
