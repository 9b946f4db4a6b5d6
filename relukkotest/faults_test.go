package relukkotest_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestFailNext(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		s.FailNext(2, http.StatusServiceUnavailable, "Retry-After", "2")
		for range 2 {
			a, err := c.create(t.Context(), "arm")
			require.NoError(t, err)
			require.Equal(t, http.StatusServiceUnavailable, a.status)
			require.Equal(t, "2", a.header.Get("Retry-After"))
			require.JSONEq(t, `{"status": 503, "message": "a fault of relukkotest"}`, a.body)
		}
		require.Empty(t, s.Locks())
		c.mustCreate(t, "arm")
		require.Equal(t, 3, s.Requests("POST", "/v1/locks/"))
	})
}

func TestAnswerNext(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		const page = "<html><body>nginx"
		s.AnswerNext(1, relukkotest.On("DELETE", "/v1/locks/{id}"),
			relukkotest.Answer{Status: 404, Body: page})
		s.AnswerNext(-1, relukkotest.On("PUT", ""),
			relukkotest.Answer{Status: 429, Header: http.Header{"Retry-After": {"1"}}})
		id := c.mustCreate(t, "arm")

		a, err := c.do(t.Context(), "DELETE", "/v1/locks/"+id, "")
		require.NoError(t, err)
		require.Equal(t, 404, a.status)
		require.Equal(t, page, a.body)
		require.Contains(t, a.header.Get("Content-Type"), "text/html")

		for range 3 {
			a, err = c.do(t.Context(), "PUT", "/v1/locks/"+id, "{}")
			require.NoError(t, err)
			require.Equal(t, 429, a.status)
			require.Equal(t, "1", a.header.Get("Retry-After"))
		}
		s.Heal()
		a, err = c.do(t.Context(), "PUT", "/v1/locks/"+id, "{}")
		require.NoError(t, err)
		require.Equal(t, 200, a.status)
		a, err = c.do(t.Context(), "DELETE", "/v1/locks/"+id, "")
		require.NoError(t, err)
		require.Equal(t, 200, a.status)
	})
}

func TestCutNext(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		s.CutNext(2, relukkotest.On("POST", ""))
		for _, name := range []string{"arm", "gripper"} {
			_, err := c.create(t.Context(), name)
			require.ErrorContains(t, err, "EOF")
		}
		require.Equal(t, []string{"arm", "gripper"}, names(s.Locks()))
		c.mustCreate(t, "camera")
	})
}

func TestHold(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		h, carriedOut := s.Hold(relukkotest.On("POST", "")), s.HoldReplies(
			relukkotest.On("POST", ""))
		ctx, giveUp := context.WithCancel(t.Context())
		gaveUp, done := make(chan error), make(chan error)
		go func() {
			_, err := c.create(ctx, "arm")
			gaveUp <- err
		}()
		go func() {
			_, err := c.create(t.Context(), "gripper")
			done <- err
		}()
		require.NoError(t, h.Await(t.Context(), 2))
		require.Equal(t, 2, h.Parked())
		require.Empty(t, s.Locks())
		giveUp()
		require.ErrorIs(t, <-gaveUp, context.Canceled)
		require.Equal(t, 2, h.Parked(), "a caller that gave up takes nothing back")
		require.ErrorIs(t, h.Await(ctx, 3), context.Canceled)

		h.Release()
		h.Release()
		require.NoError(t, carriedOut.Await(t.Context(), 2))
		require.ElementsMatch(t, []string{"arm", "gripper"}, names(s.Locks()))
		carriedOut.Release()
		require.NoError(t, <-done)
		c.mustCreate(t, "camera") // is not held any more
	})
}

func TestHoldReplies(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		h := s.HoldReplies(nil)
		done := make(chan answer)
		go func() {
			a, _ := c.create(t.Context(), "arm")
			done <- a
		}()
		require.NoError(t, h.Await(t.Context(), 1))
		require.Equal(t, []string{"arm"}, names(s.Locks()))
		s.Heal() // releases it
		a := <-done
		require.Equal(t, http.StatusCreated, a.status)
		require.Equal(t, "30", a.header.Get("Relukko-Wait"))
	})
}

func TestLatency(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := relukkotest.NewServer(t, relukkotest.InMemory())
		c := newCaller(s)
		s.Latency(func(r *http.Request) (before, after time.Duration) {
			if r.Method == "POST" {
				return 2 * time.Second, 3 * time.Second
			}
			return 0, 0
		})
		began := time.Now()
		done := make(chan time.Duration)
		go func() {
			c.create(t.Context(), "arm")
			done <- time.Since(began)
		}()
		time.Sleep(1999 * time.Millisecond)
		synctest.Wait()
		require.Empty(t, s.Locks())
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		require.Len(t, s.Locks(), 1)
		require.Equal(t, 5*time.Second, <-done)

		began = time.Now()
		_, err := c.do(t.Context(), "GET", "/v1/locks/", "")
		require.NoError(t, err)
		require.Zero(t, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.create(ctx, "gripper")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Len(t, s.Locks(), 1)
		time.Sleep(2 * time.Second) // it is on its way all the same
		require.Len(t, s.Locks(), 2)
	})
}

func TestLatencyOnLoopback(t *testing.T) {
	s := relukkotest.NewServer(t)
	s.Latency(func(*http.Request) (
		before, after time.Duration) {
		return 20 * time.Millisecond, 30 * time.Millisecond
	})
	began := time.Now()
	newCaller(s).mustCreate(t, "arm")
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
}

func TestDarkness(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		c.mustCreate(t, "arm")
		s.GoDark()
		for range 2 { // by the connection there is, and by a new one
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := c.create(ctx, "gripper")
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
		}
		s.ComeBack()
		c.mustCreate(t, "camera")
		require.Equal(t, []string{"arm", "camera"}, names(s.Locks()))
		require.Equal(t, 2, s.Requests("POST", ""))
	})
}

func TestAnAnswerIsLostInTheDark(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		h := s.HoldReplies(nil)
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, err := c.create(ctx, "arm")
			failed <- err
		}()
		require.NoError(t, h.Await(t.Context(), 1))
		s.GoDark()
		h.Release()
		s.Stop() // waits until it is answered; who is in the dark does not hear of the stop
		s.ComeBack()
		select {
		case err := <-failed:
			require.Fail(t, "something got through", "%v", err)
		case <-time.After(50 * time.Millisecond):
		}
		cancel()
		require.ErrorIs(t, <-failed, context.Canceled)
		require.Len(t, s.Locks(), 1)
	})
}

func TestLinksGoDarkOneByOne(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		mine, other := s.NewLink(), s.NewLink()
		here, there := mine.Client(), other.Client()
		mine.GoDark()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.Error(t, here.Health(ctx))
		require.NoError(t, there.Health(t.Context()))
		require.NoError(t, s.Client().Health(t.Context()))

		mine.ComeBack()
		require.NoError(t, here.Health(t.Context()))
	})
}

func TestCut(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		h := s.Hold(nil)
		failed := make(chan error)
		go func() {
			_, err := c.create(t.Context(), "arm")
			failed <- err
		}()
		require.NoError(t, h.Await(t.Context(), 1))
		s.Cut()
		require.ErrorContains(t, <-failed, "connection reset")
		h.Release()
		c.mustCreate(t, "gripper")
	})
}

func TestFaultsConcernRequestsOneByOne(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		s.CutNext(1, relukkotest.On("POST", ""))
		s.FailNext(1, 500)
		s.FailNext(1, 502)
		// The oldest first; a request that is answered is not cut.
		for _, want := range []int{500, 502} {
			a, err := c.create(t.Context(), "arm")
			require.NoError(t, err)
			require.Equal(t, want, a.status)
		}
		_, err := c.create(t.Context(), "arm")
		require.ErrorContains(t, err, "EOF")
		a, err := c.create(t.Context(), "arm")
		require.NoError(t, err)
		require.Equal(t, http.StatusConflict, a.status)
	})
}
