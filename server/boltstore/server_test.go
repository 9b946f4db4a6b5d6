package boltstore_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/boltstore"
)

// backend is a server on a store whose writes can be made to fail, though they get to the disk.
type backend struct {
	t      *testing.T
	server *server.Server
	st     *boltstore.Store
	broken atomic.Bool
}

func startBackend(t *testing.T) *backend {
	b := &backend{t: t, st: open(t, onDisk(t))}
	b.st.HookWrites(func(page []byte, at int64, write boltstore.WriteFunc) (int, error) {
		n, err := write(page, at)
		if b.broken.Load() && b.st.IsLast(at) {
			b.broken.Store(false) // it works again at once
			return n, errDisk
		}
		return n, err
	})
	b.server = server.New(b.st, server.WithAPIKeys("key"), server.WithGrace(0))
	return b
}

func (b *backend) stop() { require.NoError(b.t, b.server.Shutdown(b.t.Context())) }

func (b *backend) do(method, path, body, prefer string) (status int, id string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-API-KEY", "key")
	r.Header.Set("Prefer", prefer)
	w := httptest.NewRecorder()
	b.server.ServeHTTP(w, r)
	var answer struct{ ID string }
	require.NoError(b.t, json.Unmarshal(w.Body.Bytes(), &answer))
	return w.Code, answer.ID
}

const robot = `{"lock_name":"robot-arm-1","creator":null}`

// TestAReleaseThatCameAboutUnheard: a waiter gets the name, though no request was told that
// it is free.
func TestAReleaseThatCameAboutUnheard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := startBackend(t)
		defer b.stop()
		status, id := b.do("POST", "/v1/locks/", robot, "")
		require.Equal(t, 201, status)
		granted := make(chan int, 1)
		go func() {
			status, _ := b.do("POST", "/v1/locks/", robot, "wait=30")
			granted <- status
		}()
		synctest.Wait()
		start := time.Now()
		b.broken.Store(true)
		status, _ = b.do("DELETE", "/v1/locks/"+id, "", "")
		require.Equal(t, 503, status)
		require.Equal(t, 201, <-granted)
		require.Zero(t, time.Since(start))
	})
}

// TestACreateThatCameAboutUnheard: its lock is swept when it has expired, though the server never
// saw it. It has a mark, or the server would delete it as soon as it hears of it.
func TestACreateThatCameAboutUnheard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := startBackend(t)
		defer b.stop()
		synctest.Wait()
		b.broken.Store(true)
		marked := `{"lock_name":"robot-arm-1","creator":"bench #abcdefghijkl"}`
		status, _ := b.do("POST", "/v1/locks/", marked, "")
		require.Equal(t, 503, status)
		status, _ = b.do("GET", "/healthchecker", "", "")
		require.Equal(t, 200, status)
		status, _ = b.do("POST", "/v1/locks/", robot, "")
		require.Equal(t, 409, status)
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		status, _ = b.do("POST", "/v1/locks/", robot, "")
		require.Equal(t, 201, status)
	})
}

// TestNothingLeasedIsSweptAfterAStep of the store's clock, for one lease.
func TestNothingLeasedIsSweptAfterAStep(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		st, err := boltstore.OpenWith(onDisk(t), boltstore.WithClock(func() time.Time {
			return time.Now().Add(time.Duration(ahead.Load()))
		}))
		require.NoError(t, err)
		defer func() { require.NoError(t, st.Close()) }()
		b := &backend{t: t, st: st, server: server.New(st, server.WithAPIKeys("key"))}
		defer b.stop()
		create := func(name, lease string) string {
			status, id := b.do("POST", "/v1/locks/", `{"lock_name":"`+name+`"}`, "lease="+lease)
			require.Equal(t, 201, status)
			return "/v1/locks/" + id
		}
		there := func(path string) bool {
			synctest.Wait()
			status, _ := b.do("GET", path, "", "")
			return status == 200
		}
		time.Sleep(time.Minute)
		renewed, short, long := create("renewed", "30"), create("short", "5"), create("long", "500")
		time.Sleep(time.Second)

		ahead.Add(int64(time.Hour))
		time.Sleep(4900 * time.Millisecond)
		require.True(t, there(short))
		time.Sleep(1200 * time.Millisecond)
		require.False(t, there(short), "its holder has had its lease to renew")
		time.Sleep(20 * time.Second)
		status, _ := b.do("PUT", renewed+"/keep_alive", `{"seconds":30}`, "")
		require.Equal(t, 200, status)
		time.Sleep(32 * time.Second)
		require.True(t, there(renewed))
		require.True(t, there(long))
		time.Sleep(3 * time.Second)
		require.False(t, there(renewed), "a tenth after the lease")
		require.False(t, there(long), "after a minute")

		again := create("again", "5")
		ahead.Add(-int64(time.Hour))
		time.Sleep(time.Hour + 5*time.Second)
		require.True(t, there(again), "the clock was set back")
		time.Sleep(time.Second)
		require.False(t, there(again))
	})
}
