package stream

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Whether there is a stream depends on the response to the upgrade.
func TestAbsence(t *testing.T) {
	const none, outage, final = "none", "outage", "final"
	for _, c := range []struct {
		name    string
		upgrade http.HandlerFunc
		dumb    bool
		is      string
		after   time.Duration
	}{
		{"400", refuse(400, true), false, none, 0},
		{"404", refuse(404, true), false, none, 0},
		{"foreign 404", refuse(404, false), false, none, 0},
		{"405", refuse(405, true), false, none, 0},
		{"426", refuse(426, false), false, none, 0},
		{"501", refuse(501, false), false, none, 0},
		{"302", refuse(302, false, "Location", "http://login.test/"), false, none, 0},
		{"200", refuse(200, false), false, none, 0},
		{"foreign 401", refuse(401, false), false, none, 0},
		{"foreign 403", refuse(403, false), false, none, 0},
		{"401", refuse(401, true), false, final, 0},
		{"403", refuse(403, true), false, final, 0},
		{"429", refuse(429, false), false, outage, 0},
		{"500", refuse(500, true), false, outage, 0},
		{"502", refuse(502, false), false, outage, 0},
		{"503", refuse(503, false), false, outage, 0},
		{"504", refuse(504, false), false, outage, 0},
		{"no hello", nil, true, none, helloTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				b.upgrade, b.dumb = c.upgrade, c.dumb
				b.plain = refuse(502, false)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				began := time.Now()
				r := request()
				err := (<-b.acquire(ctx, r)).err
				switch c.is {
				case none:
					require.ErrorIs(t, err, ErrAbsent)
					require.Equal(t, c.after, time.Since(began))
					require.True(t, r.Sent.IsZero())
					require.Empty(t, get(b, func() []string { return b.requests }))
				case outage:
					require.ErrorIs(t, err, context.DeadlineExceeded)
				case final:
					require.ErrorIs(t, err, api.ErrRefused)
				}
			})
		})
	}
}

// A client that had a stream looks twice, 1 s apart, before it believes that there is none.
func TestAbsenceAfterAStream(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		r := request()
		done := b.acquire(t.Context(), r)
		p := b.next()
		p.expect(wire.RequestAcquire)
		sent := time.Now()
		go p.serve(nil)
		time.Sleep(5 * time.Second)
		b.set(func() { b.upgrade = refuse(404, false) })
		p.cut()
		broken := time.Now()
		require.ErrorIs(t, (<-done).err, ErrAbsent)
		require.Equal(t, time.Second, time.Since(broken))
		require.Equal(t, sent, r.Sent, "the next driver must know that it was sent")
		require.Len(t, b.when(), 3)
	})
}

// Where plain requests are answered for 10 s while no stream comes up, acquires use them.
func TestPlainRequestsWork(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		b.upgrade = refuse(502, false)
		began := time.Now()
		require.ErrorIs(t, (<-b.acquire(t.Context(), request())).err, ErrAbsent)
		require.InDelta(t, 10*time.Second, time.Since(began), float64(1500*time.Millisecond))
	})
}

// An absent stream is tried again after 5 s, rising to 10 min, while something could use it.
func TestBack(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		b.upgrade = refuse(404, true)
		require.ErrorIs(t, (<-b.acquire(t.Context(), request())).err, ErrAbsent)
		back := make(chan struct{})
		stop, absent := b.driver.OnBack(func(cause error) {
			require.Equal(t, acquire.ErrMoved, cause)
			close(back)
		})
		require.True(t, absent)
		time.Sleep(2 * time.Hour)
		gaps := []time.Duration{}
		for i, at := range b.when()[1:] {
			gaps = append(gaps, at.Sub(b.when()[i]))
		}
		require.Equal(t, []time.Duration{
			5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second,
			160 * time.Second, 320 * time.Second, 600 * time.Second, 600 * time.Second,
		}, gaps[:9])
		require.ErrorIs(t, (<-b.acquire(t.Context(), request())).err, ErrAbsent)
		b.set(func() { b.upgrade = nil })
		<-back
		require.False(t, b.driver.Absent())
		stop()
		p, g := b.connectedTo(b.next())
		b.driver.Drop(g)
		p.cut()
	})
	// Without a user nothing is tried.
	play(t, func(t *testing.T, b *fake) {
		b.upgrade = refuse(404, true)
		require.ErrorIs(t, (<-b.acquire(t.Context(), request())).err, ErrAbsent)
		time.Sleep(time.Hour)
		require.Len(t, b.when(), 1)
		require.ErrorIs(t, (<-b.acquire(t.Context(), request())).err, ErrAbsent)
	})
}

// A call that waits asks for its place once, and gives its rank back on the next connection.
func TestPlaceOutlastsTheConnection(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		done := b.acquire(t.Context(), request())
		p := b.next()
		first, err := p.tryReadAll()
		require.NoError(t, err)
		require.False(t, first.Acquire.Progress)
		sent := time.Now()
		second, err := p.tryReadAll()
		require.NoError(t, err)
		require.Equal(t, followAfter, time.Since(sent))
		require.True(t, second.Acquire.Progress && second.Acquire.Again)
		require.Equal(t, first.Acquire.Creator, second.Acquire.Creator)
		p.say(fmt.Sprintf(`{"n":%d,"waiting":{"ahead":2,"rank":17,"holder":null}}`, second.N))
		synctest.Wait()
		p.cut()
		p = b.next()
		again := p.expect(wire.RequestAcquire)
		require.True(t, again.Acquire.Progress && again.Acquire.Again)
		require.EqualValues(t, 17, again.Acquire.Rank)
		require.Equal(t, 3, again.Acquire.Place)
		p.grant(again.N, again.N, lockOn(1))
		require.NoError(t, (<-done).err)
	})
}

// A grant may cross the request for the place. It answers the acquire under either number, and
// what else the server grants for it is nothing new.
func TestGrantCrossesTheRequestForThePlace(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		done := b.acquire(t.Context(), request())
		p := b.next()
		first := p.expect(wire.RequestAcquire)
		second, err := p.tryReadAll()
		require.NoError(t, err)
		p.grant(first.N, first.N, lockOn(1))
		require.NoError(t, (<-done).err)
		p.grant(second.N, 0, lockOn(1))
		go p.serve(func(r wire.StreamRequest) { require.Fail(t, "the lock is kept", "%v", r) })
		synctest.Wait()
	})
}
