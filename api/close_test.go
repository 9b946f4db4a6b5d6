package api

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// job is something that a mutex has under way.
type job string

func (j job) Describe() string { return string(j) }
func (j job) Abandon()         {}

func TestCloseWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(2 * time.Second):
				answer(200, testLock)(w, r)
			case <-r.Context().Done():
			}
		})
		task := job("a lock that is held")
		require.NoError(t, c.under.Begin(task))
		w, err := c.Watch(t.Context())
		require.NoError(t, err)
		require.Equal(t, Event{Kind: EventDisconnected}, <-w.Events())

		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { // under way when Close begins
			_, err := c.Create(context.Background(), testName, "")
			require.NoError(t, err)
		})
		synctest.Wait()
		begin := time.Now()
		wg.Go(func() {
			require.NoError(t, c.Shutdown(context.Background()))
			require.Equal(t, 7*time.Second, time.Since(begin))
		})
		synctest.Wait()

		require.ErrorIs(t, c.under.Begin(job("a new Lock")), ErrClosed)

		// While a task goes on, calls do, too.
		_, err = c.Delete(t.Context(), testID)
		require.NoError(t, err)
		another, err := c.Watch(t.Context())
		require.NoError(t, err)
		another.Close()
		time.Sleep(time.Until(begin.Add(7 * time.Second)))
		select {
		case e, ok := <-w.Events():
			require.True(t, ok, "closed while a task needs it")
			require.Equal(t, EventDisconnected, e.Kind)
		default:
		}
		c.under.End(task)
		for range w.Events() {
		}
		wg.Wait()

		_, err = c.Get(t.Context(), testID)
		require.ErrorIs(t, err, ErrClosed)
		require.True(t, NoEffect(err))
		require.EqualError(t, err, "relukko: get lock "+testID+": client closed")
		_, err = c.Watch(t.Context())
		require.ErrorIs(t, err, ErrClosed)
		require.NoError(t, c.Shutdown(t.Context()), "again")
	})
}

// When its context ends Close ends what is left, and says what it was.
func TestCloseGivesUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &http.Server{Handler: http.HandlerFunc(silence)}
		m := newMemory()
		go s.Serve(m)
		defer s.Close()
		transport := &http.Transport{DialContext: m.DialContext}
		defer transport.CloseIdleConnections()
		c, err := New("http://backend", testKey, WithHTTPClient(&http.Client{Transport: transport}))
		require.NoError(t, err)

		task := job(`lock "b" is held`)
		require.NoError(t, c.under.Begin(task))
		go func() {
			<-c.under.Context(t.Context()).Done()
			c.under.End(task)
		}()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Create(context.Background(), "a", "", Wait(30*time.Second))
			require.ErrorIs(t, err, ErrClosed)
			require.False(t, NoEffect(err))
			require.False(t, Transient(err))
		})
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		const want = `relukko: closed with 2 unfinished: lock "b" is held; create lock "a"`
		wg.Go(func() { require.EqualError(t, c.Shutdown(context.Background()), want) })
		synctest.Wait()
		require.EqualError(t, c.Shutdown(ctx), want, "a second Close hastens the first")
		require.Equal(t, 3*time.Second, time.Since(begin))
		wg.Wait()
		require.EqualError(t, c.Shutdown(context.Background()), want)
	})
}

// Close waits for no retry, but of tasks.
func TestCloseEndsRetries(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var n atomic.Int32
		c, _ := inMemory(t, func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			answer(503, "", "Retry-After", "10")(w, r)
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.Get(context.Background(), testID)
			require.ErrorIs(t, err, ErrClosed)
			require.ErrorContains(t, err, "(before that: 503 Service Unavailable)")
			require.False(t, NoEffect(err))
		})
		synctest.Wait()
		begin := time.Now()
		require.NoError(t, c.Shutdown(context.Background()))
		wg.Wait()
		require.Zero(t, time.Since(begin))
		require.EqualValues(t, 1, n.Load())
	})
}

func TestCloseOfAClientThatDidNothing(t *testing.T) {
	c, err := New("http://localhost:3000", "")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, c.Shutdown(ctx), "there was nothing to give up")
	require.NoError(t, c.Shutdown(ctx))
}

// A connection that is still being made for a call that was given up does not
// outlive the client.
func TestCloseEndsDials(t *testing.T) {
	c, err := New("http://backend", testKey)
	require.NoError(t, err)
	dialing, ended := make(chan struct{}), make(chan struct{})
	c.transport().client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _,
		_ string) (net.Conn, error) {
		close(dialing)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-dialing
		cancel()
	}()
	_, err = c.Create(ctx, testName, "")
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, NoEffect(err))
	require.NoError(t, c.Shutdown(t.Context()))
	<-ended
}
