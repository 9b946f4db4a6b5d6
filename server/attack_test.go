package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestSocketsThatDie: on real sockets too, a caller who goes away in whichever way leaves the line
// at once.
func TestSocketsThatDie(t *testing.T) {
	for name, die := range map[string]func(*net.TCPConn) error{
		"closed":      func(c *net.TCPConn) error { return c.Close() },
		"reset":       func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
		"half closed": func(c *net.TCPConn) error { return c.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			st := memstore.New()
			srv := server.New(st, server.WithAPIKeys(apiKey))
			ts := httptest.NewServer(srv)
			defer func() {
				require.NoError(t, srv.Shutdown(t.Context()))
				ts.Close()
			}()
			held, err := st.Create(
				t.Context(), store.NewLock{ID: nobody, Name: "robot-arm-1", TTL: time.Minute})
			require.NoError(t, err)
			conn, err := net.Dial("tcp", ts.Listener.Addr().String())
			require.NoError(t, err)
			defer conn.Close()
			_, err = fmt.Fprintf(conn,
				"POST /v1/locks HTTP/1.1\r\nHost: x\r\nX-API-KEY: %s\r\n"+
					"Prefer: wait=30\r\nContent-Length: 27\r\n\r\n%s",
				apiKey, `{"lock_name":"robot-arm-1"}`)
			require.NoError(t, err)
			waiters := func() int {
				rec := httptest.NewRecorder()
				req := httptest.NewRequest("GET", "/v1/locks/"+held.ID+"?waiters=1", nil)
				req.Header.Set("X-API-KEY", apiKey)
				srv.ServeHTTP(rec, req)
				return *reply{body: rec.Body.String()}.lock(t).Waiters
			}
			require.Eventually(t, func() bool { return waiters() == 1 }, 5*time.Second,
				time.Millisecond)
			require.NoError(t, die(conn.(*net.TCPConn)))
			require.Eventually(t, func() bool { return waiters() == 0 }, 5*time.Second,
				time.Millisecond)
		})
	}
}

// TestThousandsOfWaiters: beyond the limit they are refused, those within are served, and none
// costs the others more than its turn.
func TestThousandsOfWaiters(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const within, beyond, turns = 5000, 50, 50
		b := start(t, server.WithMaxWaiters(within))
		held := b.create("robot-arm-1", "")
		var refused atomic.Int64
		granted := make(chan lock, turns)
		var wg sync.WaitGroup
		for range within + beyond {
			wg.Go(func() {
				r := b.send(t.Context(), "POST", "/v1/locks", createBody("robot-arm-1", ""),
					"Prefer", "wait=30")
				switch {
				case r.err != nil:
					t.Error(r.err)
				case r.status == 503 && r.header.Get("Retry-After") == "1":
					refused.Add(1)
				case r.status == 201:
					granted <- r.lock(t)
				case r.status != 409:
					t.Error(r)
				}
			})
		}
		synctest.Wait()
		require.EqualValues(t, beyond, refused.Load())
		require.Equal(t, within, *b.do(200, "GET", "/v1/locks/"+held.ID+"?waiters=1", "").lock(
			t).Waiters)
		for range turns {
			b.delete(held.ID)
			synctest.Wait()
			held = <-granted
		}
		require.Equal(t, within-turns,
			*b.do(200, "GET", "/v1/locks/"+held.ID+"?waiters=1", "").lock(t).Waiters)
		wg.Wait()
		require.Zero(t, *b.do(200, "GET", "/v1/locks/"+held.ID+"?waiters=1", "").lock(t).Waiters)
	})
}

// TestTimeoutsOfTheHTTPServer are meant for callers who dawdle, not for those who are let wait.
func TestTimeoutsOfTheHTTPServer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := startIn(t, &http.Server{ReadTimeout: time.Second, WriteTimeout: time.Second,
			IdleTimeout: time.Second}, memstore.New())
		held := b.create("robot-arm-1", "")
		w := b.wait("robot-arm-1", "", 30)
		time.Sleep(20 * time.Second)
		b.delete(held.ID)
		synctest.Wait()
		w.granted(t)
		b.do(409, "POST", "/v1/locks", createBody("robot-arm-1", ""), "Prefer", "wait=30")
	})
}

// TestAClientThatClosedItsHalf before there was an answer is told so, not that all is well, and
// leaves no lock.
func TestAClientThatClosedItsHalf(t *testing.T) {
	for _, wait := range []string{"", "wait=30"} {
		b := start(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		rec := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(
			ctx, "POST", "/v1/locks", strings.NewReader(createBody("robot-arm-1", "")))
		req.Header.Set("X-API-KEY", apiKey)
		req.Header.Set("Prefer", wait)
		b.srv.ServeHTTP(rec, req)
		require.Equal(t, 503, rec.Code)
		require.Empty(t, b.locks())
	}
}

// TestPipelinedRequests: bytes of the next request behind a waiting one are not taken for the
// caller going away.
func TestPipelinedRequests(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		held := b.create("robot-arm-1", "")
		conn, err := b.net.dial(t.Context(), "", "")
		require.NoError(t, err)
		defer conn.Close()
		go func() {
			_, _ = fmt.Fprintf(conn,
				"POST /v1/locks HTTP/1.1\r\nHost: x\r\nX-API-KEY: %s\r\n"+
					"Prefer: wait=30\r\nContent-Length: 27\r\n\r\n%s",
				apiKey, `{"lock_name":"robot-arm-1"}`)
			_, _ = fmt.Fprint(conn,
				"GET /healthchecker HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		}()
		synctest.Wait()
		b.delete(held.ID)
		answers, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Contains(t, string(answers), "HTTP/1.1 201 Created\r\n")
		require.Contains(t, string(answers), "HTTP/1.1 200 OK\r\n")
	})
}
