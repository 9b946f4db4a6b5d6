package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// ok answers a plain request about lock 1.
func ok(w http.ResponseWriter, _ *http.Request) {
	lock := lockOn(1)
	w.Write(wire.AppendLock(nil, &lock))
}

// limited returns a context that ends after d.
func limited(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Renewals use the stream, and plain requests as well where it is down or silent for a third of the
// time. The first answer counts.
func TestRenew(t *testing.T) {
	const plainly = "PUT /v1/locks/" + "950daa20-a814-451e-9407-000000000001" + "/keep_alive"
	for _, c := range []struct {
		name   string
		stream func(p *peer, n uint64) // responds to the renewal; nil: the stream is down
		plain  http.HandlerFunc
		retry  bool
		err    error
		failed bool // with an error of no kind
		took   time.Duration
		used   []string
	}{
		{name: "stream", stream: func(p *peer, n uint64) { p.renewed(n, lockOn(1)) }},
		{name: "gone", stream: func(p *peer, n uint64) { p.fail(n, 404) }, err: api.ErrGone},
		{name: "refused", stream: func(p *peer, n uint64) { p.fail(n, 400) }, err: api.ErrRefused},
		{name: "down", plain: ok, used: []string{plainly}},
		{name: "down, and gone", plain: notThere, err: api.ErrGone, used: []string{plainly}},
		{name: "silent", stream: func(*peer, uint64) {}, plain: ok, took: 3 * time.Second,
			used: []string{plainly}},
		{name: "silent, and gone", stream: func(*peer, uint64) {}, plain: notThere,
			err: api.ErrGone, took: 3 * time.Second, used: []string{plainly}},
		{name: "silent, a retry", stream: func(*peer, uint64) {}, plain: ok, retry: true,
			took: 3 * time.Second, used: []string{plainly}},
		{name: "breaks", stream: func(p *peer, _ uint64) { p.cut() }, plain: ok,
			used: []string{plainly}},
		{name: "503", stream: func(p *peer, n uint64) { p.fail(n, 503) }, plain: ok, failed: true},
		{name: "503, a retry", stream: func(p *peer, n uint64) { p.fail(n, 503) }, plain: ok,
			retry: true, used: []string{plainly}},
		{name: "key refused", stream: func(p *peer, n uint64) { p.fail(n, 403) }, plain: ok,
			used: []string{plainly}},
		{name: "late", stream: func(p *peer, n uint64) {
			time.Sleep(5 * time.Second)
			p.renewed(n, lockOn(1))
		}, plain: refuse(502, false), took: 5 * time.Second, used: []string{plainly}},
		{name: "nothing", stream: func(*peer, uint64) {}, plain: refuse(502, false),
			failed: true, took: 9 * time.Second, used: []string{plainly}},
		{name: "another lock", stream: func(p *peer, n uint64) { p.renewed(n, lockOn(2)) },
			plain: ok, used: []string{plainly}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				p, g := b.connected()
				if c.stream == nil {
					b.set(func() { b.upgrade = refuse(503, true) })
					p.cut()
					time.Sleep(time.Millisecond)
				}
				b.set(func() { b.plain = c.plain })
				go p.serve(func(r wire.StreamRequest) {
					require.Equal(t, wire.RequestRenew, r.Kind)
					c.stream(p, r.N)
				})
				began := time.Now()
				lock, err := b.driver.Renew(limited(t, 9*time.Second), g, lease, c.retry)
				require.Equal(t, c.took, time.Since(began))
				require.Equal(t, c.used, get(b, func() []string { return b.requests }))
				switch {
				case c.failed:
					require.Error(t, err)
					require.False(t, api.NoEffect(err), "the one over the stream may have one")
					require.False(t, acquire.Refused(err))
				case c.err != nil:
					require.ErrorIs(t, err, c.err)
				default:
					require.NoError(t, err)
					require.Equal(t, testID(1), lock.ID)
				}
				b.driver.Drop(g)
			})
		})
	}
}

// TestASlowServerGetsNoRenewalTwice: while it sends other messages, a renewal does not go over HTTP
// as well.
func TestASlowServerGetsNoRenewalTwice(t *testing.T) { testSlow(t, 5, 5*time.Second, false) }

// TestAServerThatAnswersNoRenewal, though it sends other messages, gets them over HTTP in the end:
// it may be another one there.
func TestAServerThatAnswersNoRenewal(t *testing.T) { testSlow(t, 8, 6*time.Second, true) }

// testSlow has a server send so many other messages, one a second, before it answers.
func testSlow(t *testing.T, others int, took time.Duration, plainly bool) {
	for _, retry := range []bool{false, true} {
		t.Run(fmt.Sprintf("retry %t", retry), func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				p, g := b.connected()
				defer b.driver.Drop(g)
				b.set(func() { b.plain = ok })
				go p.serve(func(r wire.StreamRequest) {
					for range others {
						time.Sleep(time.Second)
						p.say(`{"wanted":{"id":"` + testID(2) + `","waiters":1}}`)
					}
					p.renewed(r.N, lockOn(1))
				})
				began := time.Now()
				_, err := b.driver.Renew(limited(t, 9*time.Second), g, lease, retry)
				require.NoError(t, err)
				require.Equal(t, took, time.Since(began))
				requests := get(b, func() []string { return b.requests })
				require.Equal(t, plainly, len(requests) > 0)
				time.Sleep(9 * time.Second) // the answers that come late
			})
		})
	}
}

// Renewals wait for a connection that is being opened, which is one for all of them, but not for
// longer than for one that is silent.
func TestRenewalsWaitForTheStreamToOpen(t *testing.T) {
	for _, c := range []struct {
		hello, took time.Duration
		plain       int
	}{
		{2 * time.Second, 2 * time.Second, 0},
		{4 * time.Second, 3 * time.Second, 10},
	} {
		t.Run(c.hello.String(), func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				p, g := b.connected()
				defer b.driver.Drop(g)
				b.set(func() { b.plain, b.dumb = ok, true })
				p.cut()
				p = b.next()
				go func() {
					time.Sleep(c.hello)
					p.say(`{"hello":{"key":"default","role":"admin","features":[]}}`)
					p.serve(func(r wire.StreamRequest) { p.renewed(r.N, lockOn(1)) })
				}()
				began := time.Now()
				var all errgroup.Group
				for range 10 {
					all.Go(func() error {
						_, err := b.driver.Renew(limited(t, 9*time.Second), g, lease, false)
						return err
					})
				}
				require.NoError(t, all.Wait())
				require.Equal(t, c.took, time.Since(began))
				require.Len(t, get(b, func() []string { return b.requests }), c.plain)
				time.Sleep(2 * time.Second)
			})
		})
	}
}

// Releases use the stream if it is up, else plain requests. After an outcome that is unknown, gone
// counts as released.
func TestRelease(t *testing.T) {
	const plainly = "DELETE /v1/locks/" + "950daa20-a814-451e-9407-000000000001"
	for _, c := range []struct {
		name   string
		stream func(p *peer, n uint64)
		plain  http.HandlerFunc
		err    error
		took   time.Duration
		used   []string
	}{
		{name: "stream", stream: func(p *peer, n uint64) { p.done(n) }},
		{name: "gone", stream: func(p *peer, n uint64) { p.fail(n, 404) }, err: api.ErrGone},
		{name: "refused", stream: func(p *peer, n uint64) { p.fail(n, 400) }, err: api.ErrRefused},
		{name: "key refused", stream: func(p *peer, n uint64) { p.fail(n, 401) }, plain: ok,
			used: []string{plainly}},
		{name: "down", plain: ok, used: []string{plainly}},
		{name: "down, and gone", plain: notThere, err: api.ErrGone, used: []string{plainly}},
		{name: "breaks", stream: func(p *peer, _ uint64) { p.cut() }, plain: notThere,
			took: 200 * time.Millisecond, used: []string{plainly}},
		{name: "silent", stream: func(*peer, uint64) {}, plain: notThere,
			took: releaseTime + 200*time.Millisecond, used: []string{plainly}},
		{name: "503", stream: func(p *peer, n uint64) { p.fail(n, 503) }, plain: ok,
			took: 200 * time.Millisecond, used: []string{plainly}},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				p, g := b.connected()
				if c.stream == nil {
					b.set(func() { b.upgrade = refuse(503, true) })
					p.cut()
					time.Sleep(time.Millisecond)
				}
				b.set(func() { b.plain = c.plain })
				go p.serve(func(r wire.StreamRequest) {
					require.Equal(t, wire.RequestRelease, r.Kind)
					c.stream(p, r.N)
				})
				began := time.Now()
				answered, err := b.driver.Release(t.Context(), g, 10*time.Second)
				require.True(t, answered)
				require.Equal(t, c.took, time.Since(began))
				require.Equal(t, c.used, get(b, func() []string { return b.requests }))
				if c.err != nil {
					require.ErrorIs(t, err, c.err)
				} else {
					require.NoError(t, err)
				}
				b.driver.Drop(g)
			})
		})
	}
}

// While the stream is silent after a release, others do not wait for it. They use new connections,
// since those that are kept may be dead as well.
func TestReleaseWhileTheStreamIsSilent(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		b.set(func() {
			b.plain = func(w http.ResponseWriter, r *http.Request) {
				assert.True(t, r.Close, "kept")
				ok(w, r)
			}
		})
		var answers atomic.Bool
		go p.serve(func(r wire.StreamRequest) {
			if answers.Load() {
				p.done(r.N)
			}
		})
		release := func(took time.Duration, plain int) {
			t.Helper()
			began := time.Now()
			answered, err := b.driver.Release(t.Context(), g, 10*time.Second)
			require.True(t, answered)
			require.NoError(t, err)
			require.Equal(t, took, time.Since(began))
			require.Len(t, get(b, func() []string { return b.requests }), plain)
		}
		release(releaseTime+200*time.Millisecond, 1)
		release(0, 2)
		answers.Store(true)
		p.say(`{"wanted":{"id":"` + testID(2) + `","waiters":1}}`)
		synctest.Wait()
		release(0, 2)
		b.driver.Drop(g)
	})
}

// A release that was not written yet when its connection ended did not delete the lock: gone then
// means that somebody else did. One that was written may have.
func TestReleaseThatWasNotWritten(t *testing.T) {
	for _, written := range []bool{false, true} {
		t.Run(fmt.Sprintf("written %t", written), func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				s := b.driver.s
				l, _ := s.slowLink()
				if !written {
					go l.sendOne() // takes the connection
					synctest.Wait()
				}
				released := make(chan error, 1)
				g := &acquire.Grant{Lock: api.Lock{ID: testID(1), Name: testName}, Log: discard}
				go func() {
					_, err := b.driver.Release(t.Context(), g, 10*time.Second)
					released <- err
				}()
				synctest.Wait()
				l.cut(errors.New("the connection broke"))
				s.lostLink(l, l.over, false)
				if err := <-released; written {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, api.ErrGone)
				}
			})
		})
	}
}

// A release that nothing answers ends after its patience, over whatever path.
func TestReleaseIsNotAnswered(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		b.set(func() { b.plain = silent })
		go p.serve(nil)
		began := time.Now()
		answered, err := b.driver.Release(t.Context(), g, 10*time.Second)
		require.False(t, answered)
		require.Error(t, err)
		require.Equal(t, 10*time.Second, time.Since(began))
		require.True(t, g.ReleaseSent)
		b.driver.Drop(g)
	})
}

// A field that package wire gets must be passed on.
func TestLockOf(t *testing.T) {
	creator, now := "bench-7", time.Now()
	lock := lockOf(&wire.Lock{
		ID: testID(1), Name: testName, Creator: &creator, IP: "10.89.0.6", CreatedAt: now,
		UpdatedAt: now, ExpiresAt: now, FencingToken: 7, Owner: "ci", Waiters: 3, HasWaiters: true,
	})
	v := reflect.ValueOf(lock)
	for i := range v.NumField() {
		require.False(t, v.Field(i).IsZero(), v.Type().Field(i).Name)
	}
}

// Errors of the stream read as those of plain requests do, and never show the key.
func TestErrorTexts(t *testing.T) {
	const key = "very-secret-key"
	play(t, func(t *testing.T, b *fake) {
		done := b.acquire(t.Context(), request())
		p := b.next()
		p.say(fmt.Sprintf(`{"n":%d,"error":{"status":403,"message":"no: key %s"}}`,
			p.expect(wire.RequestAcquire).N, key))
		err := (<-done).err
		require.EqualError(t, err, "not acquired from http://relukko.test: relukko: "+
			`create lock "robot-arm-1": 403 Forbidden: no: key [secret]`)
		require.False(t, strings.Contains(fmt.Sprintf("%+v %#v", err, err), key))
	}, api.WithAPIKeyFunc(func() (string, error) { return key, nil }))
}
