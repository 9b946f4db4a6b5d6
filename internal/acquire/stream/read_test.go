package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// isLed reports whether a caller reads the connection.
func (b *fake) isLed() bool {
	synctest.Wait()
	b.driver.s.mu.Lock()
	defer b.driver.s.mu.Unlock()
	return b.driver.s.link != nil && b.driver.s.link.leading
}

// lead acquires a lock, for which the caller reads.
func (b *fake) lead(ctx context.Context, p *peer) (<-chan outcome, wire.StreamRequest) {
	b.t.Helper()
	for range 2 { // the second one soon after the first
		b.driver.Drop(b.granted(p, 9))
	}
	done := b.acquire(ctx, request())
	asked := p.expect(wire.RequestAcquire)
	require.True(b.t, b.isLed())
	return done, asked
}

// A caller that makes the only request reads its response; its context, its time and the end of the
// client end that as they end a wait, while the server says nothing.
func TestACallerReads(t *testing.T) {
	errEnough := errors.New("enough")
	type cancelFunc = context.CancelCauseFunc
	for name, end := range map[string]func(b *fake, p *peer, n uint64, cancel cancelFunc){
		"granted": func(_ *fake, p *peer, n uint64, _ cancelFunc) {
			p.grant(n, n, lockOn(2))
		},
		"refused": func(_ *fake, p *peer, n uint64, _ cancelFunc) { p.fail(n, 400) },
		"its context ends": func(_ *fake, _ *peer, _ uint64, cancel cancelFunc) {
			cancel(errEnough)
		},
		"the client closes": func(b *fake, _ *peer, _ uint64, _ cancelFunc) {
			go b.client.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				p, first := b.connected()
				defer b.driver.Drop(first)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				done, asked := b.lead(ctx, p)
				go p.serve(func(r wire.StreamRequest) { p.done(r.N) })
				time.Sleep(100 * time.Millisecond)
				require.True(t, b.isLed())
				began := time.Now()
				end(b, p, asked.N, cancel)
				out := <-done
				require.Zero(t, time.Since(began))
				switch name {
				case "granted":
					require.NoError(t, out.err)
					b.driver.Drop(out.grant)
				case "refused":
					require.ErrorIs(t, out.err, api.ErrRefused)
				case "its context ends":
					require.ErrorIs(t, out.err, errEnough)
				case "the client closes":
					require.ErrorIs(t, out.err, api.ErrClosed)
				}
				require.False(t, b.isLed())
			})
		})
	}
}

// The time of a caller that reads passes as that of others: it asks for its place, and gives up.
func TestACallerThatReadsIsDue(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, first := b.connected()
		defer b.driver.Drop(first)
		began := time.Now()
		done, asked := b.lead(t.Context(), p)
		again, err := p.tryReadAll()
		require.NoError(t, err)
		require.Equal(t, followAfter, time.Since(began))
		require.True(t, again.Acquire.Progress)
		require.Equal(t, asked.Acquire.Creator, again.Acquire.Creator)
		p.grant(again.N, again.N, lockOn(2))
		b.driver.Drop((<-done).grant)
		b.driver.Drop(b.granted(p, 3))

		began = time.Now()
		r := request()
		r.Wait, r.Patience = false, 3*time.Second
		done = b.acquire(t.Context(), r)
		p.expect(wire.RequestAcquire)
		require.True(t, b.isLed())
		go p.serve(func(r wire.StreamRequest) { p.done(r.N) })
		require.ErrorContains(t, (<-done).err, "no answer to the request")
		require.Equal(t, 3*time.Second, time.Since(began))
	})
}

// endingContext ends once it has been looked at.
type endingContext struct {
	context.Context
	end context.CancelFunc
}

func (c endingContext) Err() error {
	defer c.end()
	return c.Context.Err()
}

// A context that ends just when its caller is about to read does not leave the connection unread.
func TestACallerWhoseContextEndsBeforeItReads(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, first := b.connected()
		defer b.driver.Drop(first)
		b.driver.Drop(b.granted(p, 9))
		ctx, end := context.WithCancel(t.Context())
		out := <-b.acquire(endingContext{ctx, end}, request())
		require.ErrorIs(t, out.err, context.Canceled)
		require.False(t, b.isLed())
		p.expect(wire.RequestAcquire)
		p.done(p.expect(wire.RequestCancel).N)
		b.driver.Drop(b.granted(p, 2))
	})
}

// A caller that reads passes on what is for others. They get what comes after its response, too.
func TestACallerReadsForOthers(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, first := b.connected()
		var checked, wanted bool
		stop := b.driver.Watch(first, acquire.Watcher{
			Check:  func() { checked = true },
			Wanted: func(bool) { wanted = true },
		})
		defer stop()
		done, leader := b.lead(t.Context(), p)
		var others []<-chan outcome
		var asked []uint64
		for range 2 {
			others = append(others, b.acquire(t.Context(), request()))
			asked = append(asked, p.expect(wire.RequestAcquire).N)
		}
		require.True(t, b.isLed())
		p.grant(asked[0], asked[0], lockOn(2))
		p.say(fmt.Sprintf(`{"wanted":{"id":%q,"waiters":1}}`, testID(1)))
		synctest.Wait()
		require.True(t, wanted)
		b.driver.Drop((<-others[0]).grant)
		p.grant(leader.N, leader.N, lockOn(3))
		b.driver.Drop((<-done).grant)
		require.False(t, b.isLed())
		deleted := lockOn(1)
		p.say(fmt.Sprintf(`{"deleted":%s}`, wire.AppendLock(nil, &deleted)))
		p.grant(asked[1], asked[1], lockOn(4))
		synctest.Wait() // no time passes: a request is open
		require.True(t, checked)
		b.driver.Drop((<-others[1]).grant)
		b.driver.Drop(first)
	})
}

// After requests that followed one another events are read within busyTime, later immediately.
// After one that came alone they are read immediately, too.
func TestEventsAfterTheLastResponse(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, first := b.connected()
		var at []time.Duration
		began := time.Now()
		stop := b.driver.Watch(first, acquire.Watcher{
			Check: func() {}, Wanted: func(bool) { at = append(at, time.Since(began)) },
		})
		defer stop()
		tell := func() {
			p.say(fmt.Sprintf(`{"wanted":{"id":%q,"waiters":1}}`, testID(1)))
			time.Sleep(time.Second)
			synctest.Wait()
		}
		tell()
		b.driver.Drop(b.granted(p, 2))
		tell()
		done, asked := b.lead(t.Context(), p)
		p.grant(asked.N, asked.N, lockOn(2))
		b.driver.Drop((<-done).grant)
		tell()
		tell()
		require.Equal(t, []time.Duration{
			0, time.Second, 2*time.Second + busyTime, 3 * time.Second,
		}, at)
		b.driver.Drop(first)
	})
}

// A connection that ends under a caller that reads is opened again, and the acquire sent again.
func TestAConnectionEndsUnderItsReader(t *testing.T) {
	for name, end := range map[string]func(p *peer){
		"cut":      func(p *peer) { p.cut() },
		"bye":      func(p *peer) { p.say(`{"bye":true}`) },
		"nonsense": func(p *peer) { p.say(`{"n":100,"done":true}`) },
		"binary":   func(p *peer) { p.say("\x00") },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				p, first := b.connected()
				defer b.driver.Drop(first)
				done, asked := b.lead(t.Context(), p)
				end(p)
				p = b.next()
				again := p.expect(wire.RequestAcquire)
				require.Equal(t, asked.Acquire.Creator, again.Acquire.Creator)
				require.True(t, again.Acquire.Again)
				p.grant(again.N, again.N, lockOn(2))
				out := <-done
				require.NoError(t, out.err)
				b.driver.Drop(out.grant)
			})
		})
	}
}

// A release that its caller reads ends when its time is over.
func TestACallerReadsItsRelease(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		b.driver.Drop(b.granted(p, 2))
		b.set(func() { b.plain = ok })
		began := time.Now()
		released := make(chan error, 1)
		go func() {
			_, err := b.driver.Release(t.Context(), g, 10*time.Second)
			released <- err
		}()
		n := p.expect(wire.RequestRelease).N
		require.True(t, b.isLed())
		go p.serve(nil)
		require.NoError(t, <-released)
		require.Equal(t, releaseTime+200*time.Millisecond, time.Since(began))
		require.False(t, b.isLed())
		p.done(n) // late
		b.driver.Drop(g)
	})
}

// A caller that is to return does so soon, also where its read cannot be interrupted. Others that
// wait do not hold it up.
func TestACallerWhoseReadIsStuck(t *testing.T) {
	for name, send := range map[string]func(b *fake, p *peer, others context.Context){
		"in a message that goes on and on": func(b *fake, p *peer, others context.Context) {
			w, err := p.ws.Writer(b.t.Context(), websocket.MessageText)
			for err == nil {
				_, err = w.Write(make([]byte, 5000)) // more than is buffered
				time.Sleep(leaveTime / 10)
				b.acquire(others, request())
			}
		},
		"in a pong that the server does not read": func(b *fake, p *peer, _ context.Context) {
			for range 40 {
				for range 300 {
					go func() { _ = p.ws.Ping(b.t.Context()) }()
				}
				time.Sleep(time.Microsecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				p, first := b.connected()
				defer b.driver.Drop(first)
				began := time.Now()
				const limit = 100 * time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				done, _ := b.lead(ctx, p)
				others, end := context.WithTimeout(t.Context(), limit+leaveTime)
				defer end()
				go send(b, p, others)
				out := <-done
				require.ErrorIs(t, out.err, context.DeadlineExceeded)
				require.Equal(t, limit+leaveTime, time.Since(began))
				p.cut()
				p = b.next()
				go p.serve(func(r wire.StreamRequest) {
					if r.Kind == wire.RequestCancel {
						p.done(r.N)
					}
				})
				time.Sleep(time.Minute)
			})
		})
	}
}
