package stream

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Pings go out each sixth of the least lease that waits, and each 20 s at least.
func TestPings(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		pings := make(chan time.Time, 100)
		go func() {
			for {
				r, err := p.tryRead()
				if err != nil {
					return
				}
				if r.Kind == wire.RequestPing {
					pings <- time.Now()
					p.say(fmt.Sprintf(`{"n":%d,"pong":true}`, r.N))
				}
				if r.Kind == wire.RequestCancel {
					p.done(r.N)
				}
			}
		}()
		<-pings
		held := <-pings
		ctx, cancel := context.WithCancel(t.Context())
		r := request()
		r.Lease = 6 * time.Second
		time.Sleep(3 * time.Second)
		done := b.acquire(ctx, r)
		first := <-pings
		require.Equal(t, 4*time.Second, first.Sub(held))
		require.Equal(t, time.Second, (<-pings).Sub(first))
		cancel()
		require.ErrorIs(t, (<-done).err, context.Canceled)
		last := <-pings
		require.Equal(t, 20*time.Second, (<-pings).Sub(last))
		b.driver.Drop(g)
	})
}

// A pong that takes 5 s drops the connection.
func TestNoPong(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		began := time.Now()
		done := b.acquire(t.Context(), request())
		p := b.next()
		p.expect(wire.RequestAcquire)
		require.Equal(t, wire.RequestPing, p.read().Kind)
		require.EqualValues(t, -1, p.ended(), "no close frame: the place must be kept")
		require.Equal(t, 15*time.Second, time.Since(began))
		p = b.next()
		p.grant(p.expect(wire.RequestAcquire).N, 1, lockOn(1))
		require.NoError(t, (<-done).err)
	})
}

// So does one where pings are sent more often.
func TestNoPongAmongManyPings(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		r := request()
		r.Lease = 6 * time.Second // a ping each second
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := b.acquire(ctx, r)
		p := b.next()
		p.expect(wire.RequestAcquire)
		require.EqualValues(t, -1, p.ended())
		require.Equal(t, time.Second+pongTime, time.Since(began))
		p = b.next()
		p.expect(wire.RequestAcquire)
		cancel()
		require.ErrorIs(t, (<-done).err, context.Canceled)
		p.done(p.expect(wire.RequestCancel).N)
	})
}

// So does one where other requests are sent all the time, and none is answered.
func TestNoPongAmongManyRequests(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		defer b.driver.Drop(g)
		began := time.Now()
		go func() {
			for range 100 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				b.driver.Renew(ctx, g, lease, false)
				cancel()
			}
		}()
		require.EqualValues(t, -1, p.ended())
		require.Less(t, time.Since(began), 2*pingEvery+pongTime)
		time.Sleep(100 * time.Second)
	})
}

// A deletion that the server tells, and each new connection, has the lock checked.
func TestWatch(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		var checks atomic.Int32
		stop := b.driver.Watch(g, acquire.Watcher{Check: func() { checks.Add(1) }})
		other, lock := lockOn(2), lockOn(1)
		p.say(fmt.Sprintf(`{"deleted":%s}`, wire.AppendLock(nil, &other)))
		synctest.Wait()
		require.Zero(t, checks.Load())
		p.say(fmt.Sprintf(`{"deleted":%s,"by":"x"}`, wire.AppendLock(nil, &lock)))
		synctest.Wait()
		require.EqualValues(t, 1, checks.Load())
		p.cut()
		p = b.next()
		synctest.Wait()
		require.EqualValues(t, 2, checks.Load())
		stop()
		p.say(fmt.Sprintf(`{"deleted":%s,"by":"x"}`, wire.AppendLock(nil, &lock)))
		synctest.Wait()
		require.EqualValues(t, 2, checks.Load())
		b.driver.Drop(g)
	})
}

// A deletion that is told before Watch, right after the grant, is not missed.
func TestDeletedBeforeWatch(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		lock := lockOn(1)
		p.say(fmt.Sprintf(`{"deleted":%s,"by":"x"}`, wire.AppendLock(nil, &lock)))
		synctest.Wait()
		checks := 0
		w := acquire.Watcher{Check: func() { checks++ }}
		stop := b.driver.Watch(g, w)
		require.Equal(t, 1, checks)
		stop()
		b.driver.Watch(g, w)()
		require.Equal(t, 1, checks, "once is enough")
		b.driver.Drop(g)
	})
}

// Watch is told that a lock is wanted, also what was told before.
func TestWanted(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		wanted := func(id, waiters int) {
			p.say(fmt.Sprintf(`{"wanted":{"id":%q,"waiters":%d}}`, testID(id), waiters))
			synctest.Wait()
		}
		var told []bool
		w := acquire.Watcher{
			Check: func() {}, Wanted: func(wanted bool) { told = append(told, wanted) },
		}
		wanted(1, 2)
		stop := b.driver.Watch(g, w)
		require.Equal(t, []bool{true}, told)
		wanted(2, 3)
		wanted(1, 0)
		wanted(1, 1)
		require.Equal(t, []bool{true, false, true}, told)
		stop()
		wanted(1, 0)
		wanted(1, 1)
		wanted(1, 0)
		b.driver.Watch(g, w)()
		require.Len(t, told, 3)
		b.driver.Drop(g)
	})
}

// After a bye the client goes on over another connection, and gives up no place.
func TestBye(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		done := b.acquire(t.Context(), request())
		p := b.next()
		p.expect(wire.RequestAcquire)
		go p.serve(nil)
		time.Sleep(5 * time.Second)
		p.say(`{"bye":true}`)
		p2 := b.next()
		r := p2.expect(wire.RequestAcquire)
		require.True(t, r.Acquire.Again)
		require.Equal(t, 5*time.Second, r.Acquire.Waited)
		p2.grant(r.N, r.N, lockOn(1))
		require.NoError(t, (<-done).err)
	})
}

// A connection that nothing needs is closed with a close frame, and opened when it is needed.
func TestIdle(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		b.driver.Drop(g)
		began := time.Now()
		require.Equal(t, websocket.StatusNormalClosure, p.ended())
		require.GreaterOrEqual(t, time.Since(began), idleTime)
		require.Less(t, time.Since(began), 59*time.Second)
		synctest.Wait()
		require.Nil(t, b.driver.s.running)
		p, g = b.connected()
		go p.serve(nil)
		time.Sleep(time.Hour) // a lock is held
		require.NotNil(t, b.driver.s.up())
		b.driver.Drop(g)
	})
}

// A client that closes sends a close frame, so that its places are given up.
func TestClose(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		b.driver.Drop(g)
		done := b.acquire(t.Context(), request())
		p.expect(wire.RequestAcquire)
		closed := make(chan error)
		go func() { closed <- b.client.Close() }()
		require.ErrorIs(t, (<-done).err, api.ErrClosed)
		p.done(p.expect(wire.RequestCancel).N)
		require.Equal(t, websocket.StatusNormalClosure, p.ended())
		require.NoError(t, <-closed)
	})
	play(t, func(t *testing.T, b *fake) { // also from one that hangs
		p, g := b.connected()
		b.driver.Drop(g)
		began := time.Now()
		require.NoError(t, b.client.Close())
		require.LessOrEqual(t, time.Since(began), 250*time.Millisecond)
		p.cut()
	})
}
