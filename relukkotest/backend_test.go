package relukkotest_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/test/originalapi"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/relukkotest"
	"gitlab.com/relukko/relukko-go/server"
)

// listen opens a WebSocket of its own.
func (c caller) listen(t *testing.T) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), c.url+"/ws/broadcast", &websocket.DialOptions{
		HTTPClient: c.Client,
		HTTPHeader: http.Header{"X-Api-Key": {c.key}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { ws.CloseNow() })
	return ws
}

func TestWebSockets(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		require.Zero(t, s.WebSockets())
		one, two := c.listen(t), c.listen(t)
		require.Equal(t, 2, s.WebSockets())
		require.Equal(t, 2, s.OpenWebSockets())

		s.FailNext(1, 503) // is not for WebSockets unless it says so
		s.RefuseWebSockets(true)
		_, answer, err := websocket.Dial(
			t.Context(), c.url+"/ws/broadcast", &websocket.DialOptions{HTTPClient: c.Client})
		require.Error(t, err)
		require.Equal(t, http.StatusNotFound, answer.StatusCode)
		s.Heal()

		s.DropWebSockets()
		for _, ws := range []*websocket.Conn{one, two} {
			_, _, err := ws.Read(t.Context())
			require.ErrorContains(t, err, "connection reset")
		}
		c.listen(t)
		require.Equal(t, 3, s.WebSockets())
		require.Equal(t, 4, s.Requests("GET", "/ws/"))

		s.AnswerNext(1, relukkotest.On("GET", "/ws/"), relukkotest.Answer{Status: 403})
		_, answer, err = websocket.Dial(
			t.Context(), c.url+"/ws/broadcast", &websocket.DialOptions{HTTPClient: c.Client})
		require.Error(t, err)
		require.Equal(t, http.StatusForbidden, answer.StatusCode)
	})
}

func TestAWebSocketOutlivesAShortDark(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		ws := c.listen(t)
		s.GoDark()
		s.ComeBack()
		c.mustCreate(t, "arm")
		_, message, err := ws.Read(t.Context())
		require.NoError(t, err)
		require.Contains(t, string(message), `"created"`)

		s.GoDark()
		require.True(t, s.Delete("arm"))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, _, err = ws.Read(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded, "this broadcast is lost")
	})
}

func TestTwoKindsOfBackend(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		check := func(ours bool) {
			c := newCaller(s)
			ws := c.listen(t)
			c.mustCreate(t, "arm")
			conflict, err := c.create(t.Context(), "arm")
			require.NoError(t, err)
			require.Equal(t, http.StatusConflict, conflict.status)
			list, err := c.do(t.Context(), "GET", "/v1/locks/?waiters=1", "")
			require.NoError(t, err)
			require.True(t, s.Delete("arm"))
			deleted := ""
			for !strings.Contains(deleted, "deleted") {
				_, message, err := ws.Read(t.Context())
				require.NoError(t, err)
				deleted = string(message)
			}
			require.NoError(t, ws.CloseNow())
			require.Equal(t, ours, conflict.header.Get("Relukko-Wait") != "")
			require.Equal(t, ours, strings.Contains(conflict.body, `"lock":`))
			require.Equal(t, ours, strings.Contains(list.body, `"waiters":`))
			require.Equal(t, ours, strings.Contains(list.body, `"fencing_token":`))
			require.Equal(t, ours, strings.Contains(deleted, `"lock_name":`))
		}
		check(true)
		s.Reconfigure(httpapi.LikeOriginal(httpapi.Original{}))
		check(false)
		s.Reconfigure(httpapi.Ours())
		check(true)
		s.Stop()
		s.Reconfigure(httpapi.LikeOriginal(httpapi.Original{})) // of a backend that does not run
		s.Start(true)
		check(false)
	})
}

func TestReplacingTheBackendEndsWaiting(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		newCaller(s).mustCreate(t, "arm")
		waiter := s.Client()
		done := make(chan error)
		h := s.Hold(relukkotest.On("POST", ""))
		go func() {
			_, err := waiter.Create(t.Context(), "arm", "", api.Wait(20*time.Second))
			done <- err
		}()
		require.NoError(t, h.Await(t.Context(), 1))
		h.Release()
		s.Reconfigure(httpapi.LikeOriginal(httpapi.Original{}))
		var failure *api.Error
		require.ErrorAs(t, <-done, &failure)
		if failure.Status != http.StatusConflict { // from the new one, which does not let it wait
			require.Equal(t, http.StatusServiceUnavailable, failure.Status)
		}
		require.Len(t, s.Locks(), 1)
	})
}

func TestGoneStatus(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		for _, status := range []int{422, 404} {
			s.Reconfigure(httpapi.LikeOriginal(httpapi.Original{Gone: status}))
			a, err := newCaller(s).do(
				t.Context(), "GET", "/v1/locks/950daa20-a814-451e-9407-ec496cf9c136", "")
			require.NoError(t, err)
			require.Equal(t, status, a.status)
		}
	})
}

func TestDeletedShapes(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		require.NotEmpty(t, originalapi.DeletedShapes())
		for name, shape := range originalapi.DeletedShapes() {
			s.Reconfigure(httpapi.LikeOriginal(httpapi.Original{Deleted: shape}))
			ws := c.listen(t)
			c.mustCreate(t, "arm")
			lock := s.Locks()[0]
			require.True(t, s.Delete("arm"))
			var message map[string]json.RawMessage
			for message["deleted"] == nil {
				_, b, err := ws.Read(t.Context())
				require.NoError(t, err)
				require.NoError(t, json.Unmarshal(b, &message), name)
			}
			want, err := json.Marshal(
				shape(wire.Lock{ID: lock.ID, Name: lock.Name, Creator: lock.Creator, IP: lock.IP,
					ExpiresAt: lock.ExpiresAt, CreatedAt: lock.CreatedAt,
					UpdatedAt: lock.UpdatedAt}))
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(message["deleted"]), name)
			ws.CloseNow()
		}
	})
}

func TestClockOffset(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		newCaller(s).mustCreate(t, "arm")
		require.WithinDuration(t, time.Now().Add(7*time.Hour), s.Locks()[0].CreatedAt,
			10*time.Second)
	}, relukkotest.ClockOffset(7*time.Hour))
}

func TestBackend(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		ws := c.listen(t)
		c.mustCreate(t, "arm")
		require.True(t, s.Expire("arm")) // without grace that is its end
		for message := ""; !strings.Contains(message, "deleted"); {
			_, b, err := ws.Read(t.Context())
			require.NoError(t, err)
			message = string(b)
		}
		require.Empty(t, s.Locks())
	}, relukkotest.Backend(server.WithGrace(0)))
}
