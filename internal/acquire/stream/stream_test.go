package stream

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// One connection serves a process: acquiring, renewing and releasing.
func TestOneConnection(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		require.Equal(t, "key", p.header.Get("X-Api-Key"))
		require.Equal(t, testID(1), g.Lock.ID)
		require.Equal(t, lease, g.Length)
		require.WithinDuration(t, time.Now(), g.Since.Time(), 0)
		go p.serve(func(r wire.StreamRequest) {
			switch r.Kind {
			case wire.RequestRenew:
				require.Equal(t, 30*time.Second, r.Lease)
				p.renewed(r.N, lockOn(1))
			case wire.RequestRelease:
				require.Equal(t, testID(1), r.ID)
				p.done(r.N)
			}
		})
		lock, err := b.driver.Renew(t.Context(), g, 30*time.Second, false)
		require.NoError(t, err)
		require.Equal(t, testID(1), lock.ID)
		answered, err := b.driver.Release(t.Context(), g, 10*time.Second)
		require.True(t, answered)
		require.NoError(t, err)
		b.driver.Drop(g)
		require.Len(t, b.when(), 1)
		require.Empty(t, get(b, func() []string { return b.requests }))
	})
}

// The lease counts from before request seen was sent.
func TestSince(t *testing.T) {
	for _, c := range []struct {
		name     string
		seen     func(n, last uint64) string // n is the acquire, last is the last request
		since    time.Duration               // after the acquire was sent
		renewals int
	}{
		{"the acquire itself", func(n, _ uint64) string { return fmt.Sprint(n) }, 0, 1},
		{"a later ping", func(_, last uint64) string { return fmt.Sprint(last) },
			40 * time.Second, 0},
		{"0", func(uint64, uint64) string { return "0" }, 45 * time.Second, 1},
		{"before the acquire", func(n, _ uint64) string { return fmt.Sprint(n - 1) },
			45 * time.Second, 1},
		{"from the future", func(_, last uint64) string { return fmt.Sprint(last + 1) },
			45 * time.Second, 1},
		{"none", func(uint64, uint64) string { return "null" }, 45 * time.Second, 1},
		{"nonsense", func(uint64, uint64) string { return `"7"` }, 45 * time.Second, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				p, first := b.connected() // so that n of the next is not 1
				defer b.driver.Drop(first)
				r := request()
				done := b.acquire(t.Context(), r)
				sent := time.Now()
				n := p.expect(wire.RequestAcquire).N
				last := n
				for range 4 { // pings each 10 s
					ping := p.read()
					require.Equal(t, wire.RequestPing, ping.Kind)
					last = ping.N
					p.say(fmt.Sprintf(`{"n":%d,"pong":true}`, last))
				}
				require.Equal(t, 40*time.Second, time.Since(sent))
				time.Sleep(5 * time.Second)
				lock := lockOn(2)
				p.say(fmt.Sprintf(`{"n":%d,"seen":%s,"lock":%s}`, n, c.seen(n, last),
					wire.AppendLock(nil, &lock)))
				var renewals atomic.Int32
				go p.serve(func(r wire.StreamRequest) {
					require.Equal(t, wire.RequestRenew, r.Kind)
					renewals.Add(1)
					p.renewed(r.N, lockOn(2))
				})
				out := <-done
				require.NoError(t, out.err)
				defer b.driver.Drop(out.grant)
				if c.renewals > 0 {
					c.since = 45 * time.Second // too little of the lease was left in any case
				}
				require.Equal(t, c.since, out.grant.Since.Time().Sub(sent))
				require.EqualValues(t, c.renewals, renewals.Load())
				require.Equal(t, lease, out.grant.Length)
			})
		})
	}
}

// A lock that was found is renewed first; if it is gone by then, it is acquired again.
func TestFoundLockIsGone(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		done := b.acquire(t.Context(), request())
		p := b.next()
		p.grant(p.expect(wire.RequestAcquire).N, 0, lockOn(1))
		p.fail(p.expect(wire.RequestRenew).N, 404)
		r := p.expect(wire.RequestAcquire)
		require.True(t, r.Acquire.Again)
		p.grant(r.N, r.N, lockOn(2))
		out := <-done
		require.NoError(t, out.err)
		require.Equal(t, testID(2), out.grant.Lock.ID)
	})
}

// After a break an acquire is sent again, with again and waited, at most 1 s later.
func TestBreak(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		r := request()
		done := b.acquire(t.Context(), r)
		p := b.next()
		first := p.expect(wire.RequestAcquire)
		require.False(t, first.Acquire.Again)
		require.True(t, first.Acquire.Wait)
		require.Zero(t, first.Acquire.Waited)
		for i := range 5 {
			go p.serve(nil)
			time.Sleep(4 * time.Second)
			p.cut()
			broken := time.Now()
			p = b.next()
			require.Zero(t, time.Since(broken), "the first retry comes immediately")
			again := p.expect(wire.RequestAcquire)
			require.EqualValues(t, 1, again.N, "n begins anew on each connection")
			require.True(t, again.Acquire.Again)
			require.Equal(t, time.Duration(i+1)*4*time.Second, again.Acquire.Waited)
			require.Equal(t, first.Acquire.Creator, again.Acquire.Creator)
		}
		p.grant(1, 1, lockOn(1))
		require.NoError(t, (<-done).err)
	})
}

// While something waits, connections are tried at most 1 s apart.
func TestRetries(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		b.upgrade, b.plain = refuse(503, true), refuse(502, false)
		done := b.acquire(t.Context(), request())
		time.Sleep(30 * time.Second)
		b.set(func() { b.upgrade = nil })
		p := b.next()
		for i, at := range b.when()[1:] {
			require.LessOrEqual(t, at.Sub(b.when()[i]), time.Second)
		}
		require.Less(t, len(b.when()), 80)
		r := p.expect(wire.RequestAcquire)
		require.False(t, r.Acquire.Again, "it was never sent")
		p.grant(r.N, r.N, lockOn(1))
		require.NoError(t, (<-done).err)
	})
}

// A call whose context ends returns promptly; its acquire is cancelled in the background.
func TestCancel(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		ctx, cancel := context.WithCancelCause(t.Context())
		done := b.acquire(ctx, request())
		p := b.next()
		n := p.expect(wire.RequestAcquire).N
		lock := lockOn(7)
		p.say(fmt.Sprintf(`{"n":%d,"waiting":{"ahead":2,"holder":%s}}`, n,
			wire.AppendLock(nil, &lock)))
		synctest.Wait()
		errStop := errors.New("stop")
		cancel(errStop)
		out := <-done
		require.ErrorIs(t, out.err, errStop)
		f, _ := errors.AsType[*acquire.Failure](out.err)
		require.True(t, f.Held)
		require.Equal(t, testID(7), f.Holder.ID)

		r := p.expect(wire.RequestCancel)
		require.Equal(t, mark, r.Mark)
		closed := make(chan error)
		go func() { closed <- b.client.Close() }()
		p.grant(n, n, lockOn(1)) // it crosses the cancel
		release := p.expect(wire.RequestRelease)
		require.Equal(t, testID(1), release.ID)
		time.Sleep(5 * time.Second)
		require.Empty(t, closed, "Shutdown waits for the answer")
		p.done(r.N)
		require.Equal(t, websocket.StatusNormalClosure, p.ended())
		require.NoError(t, <-closed)
	})
}

// gaveUp has an acquire that was sent give up, and returns the connection.
func (b *fake) gaveUp() *peer {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	done := b.acquire(ctx, request())
	p := b.next()
	p.expect(wire.RequestAcquire)
	cancel()
	require.Error(b.t, (<-done).err)
	return p
}

// A cancel is repeated until the server has confirmed it: after an error that may pass, and on each
// connection.
func TestCancelIsRepeated(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p := b.gaveUp()
		p.expect(wire.RequestCancel)
		p.cut()
		p = b.next()
		defer time.AfterFunc(time.Hour, p.cut).Stop() // else a cancel would be waited for for ever
		for range 3 {
			p.fail(p.expect(wire.RequestCancel).N, 503)
			sent := time.Now()
			n := p.expect(wire.RequestCancel).N
			require.Equal(t, cancelPause, time.Since(sent))
			p.fail(n, 429)
		}
		p.fail(p.expect(wire.RequestCancel).N, 503)
		b.set(func() { b.upgrade, b.plain = refuse(502, true), refuse(502, true) })
		p.cut()
		time.Sleep(time.Minute)
		b.set(func() { b.upgrade = nil })
		p = b.next()
		p.fail(p.expect(wire.RequestCancel).N, 503)
		p.cut()
		p = b.next()
		n := p.expect(wire.RequestCancel).N
		go p.serve(func(r wire.StreamRequest) { require.Fail(t, "another request", "%+v", r) })
		time.Sleep(2 * cancelPause)
		p.done(n)
		p.done(n) // twice
		require.NoError(t, b.client.Close())
		require.Empty(t, get(b, func() []string { return b.plainly }))
	})
}

// The server reads a cancel before the next acquire, which would otherwise find the name held.
func TestCancelIsSentFirst(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p := b.gaveUp()
		next := request()
		next.Creator = wire.WithMark("bench-7", "z2z2z2z2z2z2")
		b.acquire(t.Context(), next)
		p.done(p.expect(wire.RequestCancel).N)
		p.fail(p.expect(wire.RequestAcquire).N, 403)
	})
}

// A connection that is dead does not hold a cancel up for long.
func TestCancelOnADeadConnection(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, began := b.gaveUp(), time.Now()
		p.done(b.next().expect(wire.RequestCancel).N)
		require.Equal(t, pongTime, time.Since(began))
	})
}

// Where the stream is of no use, plain requests are needed; but a cancel over it is still sent on
// each connection.
func TestCancelNeedsPlainRequests(t *testing.T) {
	refused := func(status int) func(*fake, *peer) {
		return func(_ *fake, p *peer) { p.fail(p.expect(wire.RequestCancel).N, status) }
	}
	upgrade := func(status int) func(*fake, *peer) {
		return func(b *fake, p *peer) {
			b.set(func() { b.upgrade = refuse(status, true) })
			p.cut()
		}
	}
	for name, trouble := range map[string]func(*fake, *peer){
		"the cancel is unknown":   refused(400),
		"the cancel is refused":   refused(403),
		"the cancel is not found": refused(404),
		"the key is refused":      upgrade(401),
		"there is no stream":      upgrade(404),
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				p := b.gaveUp()
				trouble(b, p)
				time.Sleep(2 * time.Second)
				require.Contains(t, get(b, func() []string { return b.plainly }), mark)
				b.set(func() { b.upgrade = nil })
				p.cut()
				p = b.next()
				p.done(p.expect(wire.RequestCancel).N)
				require.NoError(t, b.client.Shutdown(t.Context()))
			})
		})
	}
}

// A cancel that begins while there is no stream waits for one, until it is stopped.
func TestCancelWhileThereIsNoStream(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		b.upgrade = refuse(404, true)
		require.ErrorIs(t, (<-b.acquire(t.Context(), request())).err, ErrAbsent)
		needed, plainly := context.WithCancel(t.Context())
		confirmed, confirm := context.WithCancel(t.Context())
		defer b.driver.Cancel(mark, confirm, plainly)()
		require.Error(t, needed.Err())
		b.driver.Cancel("z2z2z2z2z2z2", confirm, plainly)()
		time.Sleep(time.Minute)
		b.set(func() { b.upgrade = nil })
		p := b.next()
		r := p.expect(wire.RequestCancel)
		require.Equal(t, mark, r.Mark)
		p.done(r.N)
		<-confirmed.Done()
		b.driver.s.mu.Lock()
		defer b.driver.s.mu.Unlock()
		require.Empty(t, b.driver.s.durables)
	})
}

// What was never sent needs no cancel.
func TestNeverSent(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		b.upgrade = refuse(503, true)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		out := <-b.acquire(ctx, request())
		require.ErrorIs(t, out.err, context.DeadlineExceeded)
		require.ErrorContains(t, out.err, "said the backend")
		require.NoError(t, b.client.Close())
		require.Empty(t, get(b, func() []string { return b.plainly }))
	})
}

// The backend's own refusals end an acquire, other errors do not.
func TestErrors(t *testing.T) {
	for _, status := range []int{400, 401, 403, 410} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				done := b.acquire(t.Context(), request())
				p := b.next()
				p.fail(p.expect(wire.RequestAcquire).N, status)
				err := (<-done).err
				require.True(t, acquire.Refused(err), "%v", err)
				require.ErrorContains(t, err, "said the backend")
				go p.serve(func(wire.StreamRequest) {
					require.Fail(t, "nothing is to be cancelled")
				})
				require.NoError(t, b.client.Close())
			})
		})
	}
	for _, status := range []int{409, 500, 503} { // 409: continued on another connection
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				done := b.acquire(t.Context(), request())
				p := b.next()
				for range 5 {
					p.fail(p.expect(wire.RequestAcquire).N, status)
				}
				r := p.expect(wire.RequestAcquire)
				require.True(t, r.Acquire.Again)
				p.grant(r.N, r.N, lockOn(1))
				require.NoError(t, (<-done).err)
			})
		})
	}
}

func TestTryLockIsHeld(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		r := request()
		r.Wait = false
		done := b.acquire(t.Context(), r)
		p := b.next()
		ask := p.expect(wire.RequestAcquire)
		require.False(t, ask.Acquire.Wait)
		lock := lockOn(7)
		p.say(fmt.Sprintf(`{"n":%d,"error":{"status":409,"message":"held","lock":%s}}`, ask.N,
			wire.AppendLock(nil, &lock)))
		err := (<-done).err
		require.ErrorIs(t, err, api.ErrHeld)
		f, _ := errors.AsType[*acquire.Failure](err)
		require.True(t, f.Held)
		require.Equal(t, testID(7), f.Holder.ID)
	})
	// A server that only responds to pings does not let it hang.
	play(t, func(t *testing.T, b *fake) {
		r := request()
		r.Wait = false
		began := time.Now()
		done := b.acquire(t.Context(), r)
		p := b.next()
		go p.serve(func(r wire.StreamRequest) {
			if r.Kind == wire.RequestCancel {
				p.done(r.N)
			}
		})
		require.ErrorContains(t, (<-done).err, "gave up")
		require.Equal(t, time.Minute, time.Since(began))
	})
}

// A client that can ask for its key anew does so on 401 and 403.
func TestAnotherKey(t *testing.T) {
	var asked atomic.Int32
	key := func() (string, error) { return fmt.Sprintf("key-%d", min(asked.Add(1), 3)), nil }
	play(t, func(t *testing.T, b *fake) {
		done := b.acquire(t.Context(), request())
		p := b.next()
		require.Equal(t, "key-1", p.header.Get("X-Api-Key"))
		p.fail(p.expect(wire.RequestAcquire).N, 401)
		p = b.next()
		require.Equal(t, "key-3", p.header.Get("X-Api-Key"))
		p.fail(p.expect(wire.RequestAcquire).N, 403)
		require.ErrorIs(t, (<-done).err, api.ErrRefused) // there is no other key
	}, api.WithAPIKeyFunc(key))
}

// A key that is refused at the upgrade ends an acquire.
func TestKeyIsRefused(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		b.upgrade = refuse(401, true)
		err := (<-b.acquire(t.Context(), request())).err
		require.ErrorIs(t, err, api.ErrRefused)
		require.ErrorContains(t, err, "said the backend")
		require.Empty(t, get(b, func() []string { return b.requests }))
	})
}

// A minute without any message ends an acquire, or the policy of WithBackOff does.
func TestSilence(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		b.upgrade, b.plain = refuse(503, true), refuse(502, false)
		r := request()
		began := time.Now()
		err := (<-b.acquire(t.Context(), r)).err
		require.ErrorContains(t, err, "gave up after")
		require.InDelta(t, time.Minute, time.Since(began), float64(time.Second))
		// Another request of the mutex gives up with it.
		began = time.Now()
		r2 := request()
		r2.Since, r2.Silence = r.Since, r.Silence
		require.ErrorContains(t, (<-b.acquire(t.Context(), r2)).err, "gave up after")
		require.Less(t, time.Since(began), 2*time.Second)
	})
	play(t, func(t *testing.T, b *fake) {
		b.upgrade, b.plain = refuse(503, true), refuse(502, false)
		r := request()
		r.Patience = 0
		r.BackOff = func() backoff.BackOff {
			return backoff.WithMaxRetries(backoff.NewConstantBackOff(2*time.Second), 3)
		}
		began := time.Now()
		require.ErrorContains(t, (<-b.acquire(t.Context(), r)).err, "gave up after")
		require.InDelta(t, 7*time.Second, time.Since(began), float64(1500*time.Millisecond))
	})
	play(t, func(t *testing.T, b *fake) { // a hello is not enough
		began := time.Now()
		require.Equal(t, ErrAbsent, (<-b.acquire(t.Context(), request())).err)
		require.Less(t, time.Since(began), 35*time.Second)
		b.set(func() { b.plain = refuse(502, false) })
		b.driver.s.close()
	})
	play(t, func(t *testing.T, b *fake) { // a server that says anything is not silent
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		done := b.acquire(ctx, request())
		p := b.next()
		go p.serve(func(r wire.StreamRequest) {
			if r.Kind == wire.RequestCancel {
				p.done(r.N)
			}
		})
		require.ErrorIs(t, (<-done).err, context.DeadlineExceeded)
	})
}
