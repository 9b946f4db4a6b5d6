package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// slowConn is a connection whose writes wait for the test.
type slowConn struct {
	writes chan int // takes the number of messages of each
	cut    chan struct{}
}

func (c *slowConn) Read() ([]byte, error) { <-c.cut; return nil, errors.New("cut") }
func (c *slowConn) Close()                { c.Cut() }
func (c *slowConn) Cut()                  { close(c.cut) }
func (c *slowConn) Interruptible() bool   { return false }
func (c *slowConn) Interrupt()            {}

func (c *slowConn) Write(messages [][]byte) error {
	for _, m := range messages {
		if _, err := wire.ParseStreamRequest(m); err != nil {
			return err
		}
	}
	select {
	case c.writes <- len(messages):
		return nil
	case <-c.cut:
		return errors.New("cut")
	}
}

func slowLink() (*link, *slowConn) {
	conn := &slowConn{make(chan int), make(chan struct{})}
	return newLink(conn, new(clock.Clock), new(sync.Mutex)), conn
}

// slowLink makes such a connection that of the stream.
func (s *stream) slowLink() (*link, *slowConn) {
	conn := &slowConn{make(chan int), make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = newLink(conn, s.clock, &s.mu)
	return s.link, conn
}

// sendOne sends a release, and returns when flush has.
func (l *link) sendOne() {
	l.mu.Lock()
	l.request(&wire.StreamRequest{Kind: wire.RequestRelease, ID: testID(1)}, ignored{})
	l.mu.Unlock()
	l.flush()
}

// The caller that finds nobody writing writes all that is pending; what comes meanwhile is written
// at once, by a goroutine that ends then.
func TestCoalescedWrites(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, conn := slowLink()
		first := make(chan struct{})
		go func() { l.sendOne(); close(first) }()
		synctest.Wait()
		for range 10 {
			l.sendOne() // returns although the connection is busy
		}
		require.Equal(t, 1, <-conn.writes)
		<-first // although ten more are pending
		require.Equal(t, 10, <-conn.writes)
		synctest.Wait()
		l.mu.Lock()
		require.False(t, l.writing)
		l.mu.Unlock()
		go l.sendOne()
		require.Equal(t, 1, <-conn.writes)
	})
}

// A long request may not fit into the buffers of the connection, so its caller does not write it.
func TestALongRequestHoldsNobodyUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, conn := slowLink()
		a := wire.StreamAcquire{Creator: wire.WithMark("bench-7", mark), Lease: time.Minute}
		for i := range wire.MaxNames {
			a.Names = append(a.Names, fmt.Sprintf("a robot arm with a long name, %d", i))
		}
		l.mu.Lock()
		l.request(&wire.StreamRequest{Kind: wire.RequestAcquireAll, Acquire: a}, ignored{})
		l.mu.Unlock()
		l.flush() // returns although the connection is busy
		require.Equal(t, 1, <-conn.writes)
	})
}

// A write that takes 5 s cuts the connection.
func TestStuckWrite(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, conn := slowLink()
		began := time.Now()
		l.sendOne()
		<-conn.cut
		require.Equal(t, writeTime, time.Since(began))
		require.ErrorContains(t, l.over, "took nothing")
		l.sendOne() // returns
	})
}

// An acquire ends with its context, also while the connection takes nothing.
func TestAnAcquireEndsWhileAWriteIsStuck(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		s := b.driver.s
		l, conn := s.slowLink()
		ctx, cancel := context.WithCancel(t.Context())
		ended := b.acquire(ctx, request())
		<-conn.writes
		began := time.Now()
		cancel()
		require.ErrorIs(t, (<-ended).err, context.Canceled)
		require.Zero(t, time.Since(began))
		require.Equal(t, 2, <-conn.writes, "the cancel and a ping")
		require.NoError(t, s.handle(l, []byte(`{"n":2,"done":true}`)))
	})
}

func TestSends(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var s sends
		c := new(clock.Clock)
		_, known := s.before(7)
		require.False(t, known)
		began := time.Now()
		for n := uint64(1); n <= 1000; n++ {
			s.add(n, c.Now())
			time.Sleep(sendsApart)
		}
		at := func(n uint64) time.Duration {
			i, known := s.before(n)
			require.True(t, known)
			return i.Time().Sub(began)
		}
		require.Equal(t, 999*sendsApart, at(1000))
		require.Equal(t, 999*sendsApart, at(5000))
		require.Equal(t, 899*sendsApart, at(900))
		_, known = s.before(1000 - sendsKept)
		require.False(t, known, "the oldest are forgotten")
		require.Equal(t, (1000-sendsKept)*sendsApart, at(1001-sendsKept))

		// What is sent soon after another request counts as sent with it.
		for n := uint64(1001); n <= 1005; n++ {
			s.add(n, c.Now())
			time.Sleep(sendsApart / 4)
		}
		require.Equal(t, 1000*sendsApart, at(1004))
		require.Equal(t, 1001*sendsApart, at(1005))
	})
}

// A clock that is set back does not stop the record.
func TestSendsAfterAStep(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var s sends
		c := new(clock.Clock)
		s.add(1, c.Now())
		c.Ahead.Store(int64(-time.Hour))
		time.Sleep(time.Second)
		s.add(2, c.Now())
		i, known := s.before(2)
		require.True(t, known)
		require.Equal(t, time.Now(), i.Time())
	})
}

func TestFramesAreReused(t *testing.T) {
	var f frames
	r := wire.StreamRequest{N: 1, Kind: wire.RequestPing}
	for range 3 {
		f.add(&r)
	}
	require.Equal(t, strings.Repeat(`{"n":1,"ping":true}`, 3), string(f.bytes))
	require.Len(t, f.all(), 3)
	f = f.reset()
	require.Empty(t, f.all())
	require.NotZero(t, cap(f.bytes))
	f.bytes = make([]byte, maxSpare+1)
	require.Zero(t, cap(func() []byte { f = f.reset(); return f.bytes }()))
}
