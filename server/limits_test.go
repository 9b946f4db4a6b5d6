package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// drops is an observer that counts the watchers that were dropped.
type drops struct{ n atomic.Int32 }

func (*drops) AcquireEnded(observe.Result, time.Duration)          {}
func (*drops) LockEnded(store.How, time.Duration)                  {}
func (*drops) RenewalEnded(error)                                  {}
func (*drops) StoreCalled(observe.Operation, error, time.Duration) {}
func (*drops) Responded(string, string, int, time.Duration)        {}
func (d *drops) WatcherDropped()                                   { d.n.Add(1) }
func (*drops) AccessRefused(observe.Reason)                        {}

// sendAs is b.send with another key.
func (b *backend) sendAs(key, method, path, body string, headers ...string) reply {
	b.t.Helper()
	r := b.send(b.t.Context(), method, path, body, append(headers, "X-API-KEY", key)...)
	require.NoError(b.t, r.err)
	return r
}

// TestRequestsInASecond are limited by the name of the key, but for admins, and but for those that
// renew and release.
func TestRequestsInASecond(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...), server.WithMaxRequests(10))
		held := b.sendAs("ada user", "POST", "/v1/locks", createBody("desk", "")).lock(t)
		for range 9 {
			require.Equal(t, 200, b.sendAs("ada user", "GET", "/v1/locks", "").status)
		}
		for _, path := range []string{"/v1/locks", "/v1/locks/" + held.ID, "/v1/history",
			"/v1/waiting"} {
			r := b.sendAs("ada user", "GET", path, "")
			require.Equal(t, 429, r.status, r.body)
			require.Equal(t, "1", r.header.Get("Retry-After"))
			require.Contains(t, r.body, "--max-requests")
		}
		conn, _ := b.streamOf("ada viewer") // another key of the name
		send(t, conn, "%s", acquiring(1, "shelf", otherMark))
		require.Contains(t, next(t, conn), `"status":429`)
		conn, _ = b.streamOf("ada user")
		for n := range 100 {
			send(t, conn, `{"n":%d,"renew":%q,"lease":60}`, n+1, held.ID)
			require.Contains(t, next(t, conn), held.ID)
			require.Equal(t, 200,
				b.sendAs("ada user", "GET", "/v1/locks/"+held.ID+"/keep_alive", "").status)
			require.Equal(t, 200, b.sendAs("root admin", "GET", "/v1/locks", "").status)
		}
		require.Equal(t, 200, b.sendAs("bob user", "GET", "/v1/locks", "").status)
		require.Equal(t, 200, b.sendAs("ada user", "DELETE", "/v1/locks/"+held.ID, "").status)
		time.Sleep(time.Second / 2)
		for i := range 6 {
			want := map[bool]int{true: 200, false: 429}[i < 5]
			require.Equal(t, want, b.sendAs("ada user", "GET", "/v1/locks", "").status)
		}
	})
}

// TestOpenAcquires are limited by the name of the key, but for admins.
func TestOpenAcquires(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...), server.WithMaxAcquires(3))
		held := b.create("desk", "")
		var waits []chan reply
		for range 3 {
			waits = append(waits, b.waitAs("ada user", "desk"))
		}
		synctest.Wait()
		r := b.sendAs("ada user", "POST", "/v1/locks", createBody("shelf", ""))
		require.Equal(t, 429, r.status, r.body)
		require.Equal(t, "1", r.header.Get("Retry-After"))
		require.Contains(t, r.body, "--max-acquires")
		conn, _ := b.streamOf("ada user")
		send(t, conn, "%s", acquiring(1, "desk", otherMark))
		require.Contains(t, next(t, conn), "--max-acquires")
		for range 5 {
			b.waitAs("root admin", "desk")
		}
		b.waitAs("bob user", "desk")
		synctest.Wait()
		waiting := b.do(200, "GET", "/v1/waiting", "").body
		require.Equal(t, 9, strings.Count(waiting, "lock_names"))

		b.delete(held.ID)
		synctest.Wait()
		require.Equal(t, 1, len(waits[0])+len(waits[1])+len(waits[2]))
		r = b.sendAs("ada user", "POST", "/v1/locks", createBody("shelf", ""))
		require.Equal(t, 201, r.status, r.body)
	})
}

// unread sends a request for all locks, whose response nobody reads.
func unread(t testing.TB, conn net.Conn, key string) {
	_, err := fmt.Fprintf(conn, "GET /v1/locks HTTP/1.1\r\nHost: x\r\nX-API-KEY: %s\r\n\r\n", key)
	require.NoError(t, err)
}

// TestListsThatNobodyReads are a few for each name. Those of others are served, and each is cut off
// in the end, also where its client takes a little now and then.
func TestListsThatNobodyReads(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...))
		for i := range 400 {
			b.create(fmt.Sprint("robot-arm-", i), strings.Repeat("x", 100))
		}
		for i := range 8 {
			conn, err := b.net.dial(t.Context(), "", "")
			require.NoError(t, err)
			defer conn.Close()
			unread(t, conn, "eve viewer")
			if i == 0 {
				go func() {
					for range 70 {
						time.Sleep(time.Second)
						_, _ = conn.Read(make([]byte, 3000))
					}
				}()
			}
		}
		synctest.Wait()
		began := time.Now()
		require.Equal(t, 200, b.sendAs("ada user", "GET", "/v1/locks", "").status)
		require.Equal(t, 200,
			b.sendAs("eve viewer", "GET", "/v1/locks?lock_name=robot-arm-1", "").status)
		require.Zero(t, time.Since(began))
		r := b.sendAs("eve viewer", "GET", "/v1/locks", "")
		require.Equal(t, 429, r.status, r.body)
		require.Equal(t, "1", r.header.Get("Retry-After"))
		require.Contains(t, r.body, "8 lists at a time")
		require.Equal(t, 5*time.Second, time.Since(began))
		time.Sleep(time.Second)
		require.Equal(t, 200, b.sendAs("eve viewer", "GET", "/v1/locks", "").status)
		require.Equal(t, 10*time.Second, time.Since(began), "seven were cut off")
		time.Sleep(time.Minute)
	})
}

// TestMemoryOfListsThatNobodyReads: 200 clients of a viewer's key request 6 MB each.
func TestMemoryOfListsThatNobodyReads(t *testing.T) {
	st := memstore.New()
	creator := strings.Repeat("x", 1000)
	for i := range 5000 {
		_, err := st.Create(t.Context(), store.NewLock{Name: fmt.Sprint(i), Creator: &creator,
			ID: fmt.Sprintf("%08d-0000-4000-8000-000000000000", i), TTL: time.Hour})
		require.NoError(t, err)
	}
	srv := server.New(st, server.WithKeys(someKeys...))
	ts := httptest.NewServer(srv)
	defer ts.Close()
	defer func() { require.NoError(t, srv.Shutdown(context.Background())) }()
	conns := make([]net.Conn, 200)
	for i := range conns {
		conn, err := net.Dial("tcp", ts.Listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4096))
		unread(t, conn, "eve viewer")
		conns[i] = conn
	}
	most := uint64(0)
	refused := 0
	for _, conn := range conns { // the last ones are refused after 5 s
		if refused == 0 {
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		}
		first := make([]byte, 12)
		_, err := io.ReadFull(bufio.NewReader(conn), first)
		if err == nil && string(first) == "HTTP/1.1 429" {
			refused++
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	t.Logf("%d of %d were refused; heap: %d MB", refused, len(conns), most>>20)
	require.Less(t, most, uint64(200<<20))
}

// TestReadiness says what is wrong, within 2 s.
func TestReadiness(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &stuck{Store: memstore.New()}
		b := startOn(t, st)
		b.do(200, "GET", "/readyz", "")
		b.do(405, "POST", "/readyz", "")
		for _, failure := range []struct {
			err  error
			text string
			hang time.Duration
		}{
			{store.ErrUnavailable, "the store is unavailable", 0},
			{nil, "the store has not responded within 2s", time.Minute},
		} {
			st.failure.Store(&failure.err)
			st.hang.Store(int64(failure.hang))
			began := time.Now()
			r := b.do(503, "GET", "/readyz", "")
			require.Contains(t, r.body, failure.text)
			require.Contains(t, r.body, `{"status":503,`)
			require.Equal(t, min(failure.hang, 2*time.Second), time.Since(began))
			b.do(200, "GET", "/livez", "")
		}
		for range 20 {
			b.do(503, "GET", "/readyz", "")
		}
		require.EqualValues(t, 3, st.pings.Load(), "one at a time")
		time.Sleep(time.Minute)
		st.hang.Store(0)
		b.do(200, "GET", "/readyz", "")
		require.NoError(t, b.srv.Shutdown(t.Context()))
		r := b.do(503, "GET", "/readyz", "")
		require.Contains(t, r.body, "shutting down")
		b.do(200, "GET", "/livez", "")
	})
}

// stuck is a store whose Ping fails, or takes long, whatever its context is.
type stuck struct {
	store.Store
	failure atomic.Pointer[error]
	hang    atomic.Int64
	pings   atomic.Int32
}

func (s *stuck) Ping(context.Context) error {
	s.pings.Add(1)
	time.Sleep(time.Duration(s.hang.Load()))
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}
