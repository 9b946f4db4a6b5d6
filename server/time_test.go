package server_test

import (
	"context"
	"fmt"
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

// TestTimes runs at two settings of the store's clock: what the API says depends on that clock
// alone.
func TestTimes(t *testing.T) {
	for _, offset := range []time.Duration{0, 7 * time.Hour, -7 * time.Hour} {
		t.Run(offset.String(), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := startOn(t, memstore.New(memstore.WithClockOffset(offset)))
				now := func() time.Time {
					return time.Now().Add(offset).UTC().Truncate(
						time.Microsecond)
				}

				made := b.create("robot-arm-1", "")
				require.Equal(t, now(), made.CreatedAt)
				require.Equal(t, now(), made.UpdatedAt)
				require.Equal(t, now().Add(10*time.Minute), made.ExpiresAt)
				path := "/v1/locks/" + made.ID

				for _, c := range []struct {
					method, path, body string
					expires            func(l lock) time.Time
				}{
					{"GET", "/keep_alive", "",
						func(l lock) time.Time { return now().Add(5 * time.Minute) }},
					{"PUT", "/keep_alive", `{"seconds":360.0}`,
						func(l lock) time.Time { return now().Add(6 * time.Minute) }},
					{"PUT", "/keep_alive", `{"seconds":0.0000014}`,
						func(l lock) time.Time { return now().Add(time.Microsecond) }},
					{"PUT", "/keep_alive", `{"seconds":-1.5}`,
						func(l lock) time.Time { return now().Add(-1500 * time.Millisecond) }},
					{"PUT", "/keep_alive", `{"seconds":0}`,
						func(l lock) time.Time { return now() }},
					{"PUT", "/keep_alive", `{"seconds":3155760000}`,
						func(l lock) time.Time { return now().Add(876600 * time.Hour) }},
					{"PUT", "/keep_alive", `{"seconds":1e2}`,
						func(l lock) time.Time { return now().Add(100 * time.Second) }},
					{"GET", "/add_to_expire_at", "",
						func(l lock) time.Time { return l.ExpiresAt.Add(5 * time.Minute) }},
					{"PUT", "/add_to_expire_at", `{"seconds":-60.25}`, func(
						l lock) time.Time {
						return l.ExpiresAt.Add(-60250 * time.Millisecond)
					}},
					{"PUT", "", `{"creator":"bench-7"}`,
						func(l lock) time.Time { return l.ExpiresAt }},
					{"PUT", "", `{"expires_at":null}`,
						func(l lock) time.Time { return l.ExpiresAt }},
				} {
					before := b.do(200, "GET", path, "").lock(t)
					time.Sleep(time.Second + 1234*time.Nanosecond)
					after := b.do(200, c.method, path+c.path, c.body).lock(t)
					require.Equal(t, c.expires(before), after.ExpiresAt, "%s %s", c.path, c.body)
					require.Equal(t, now(), after.UpdatedAt)
					require.Equal(t, made.CreatedAt, after.CreatedAt)
					again := b.do(200, "GET", path, "").lock(t)
					again.Waiters = after.Waiters
					require.Equal(t, after, again)
				}

				last := b.do(200, "GET", path, "").lock(t)
				time.Sleep(time.Second)
				deleted := b.do(200, "DELETE", path, "").lock(t)
				last.Waiters = nil
				require.Equal(t, last, deleted, "as it was")
			})
		})
	}
}

func TestExpiresAtInAnyForm(t *testing.T) {
	b := start(t)
	id := b.create("robot-arm-1", "").ID
	for sent, want := range map[string]string{
		"2099-12-31T12:34:56Z":                   "2099-12-31T12:34:56Z",
		"2099-12-31T12:34:56.789000+00:00":       "2099-12-31T12:34:56.789Z",
		"2099-12-31T12:34:56.789-00:00":          "2099-12-31T12:34:56.789Z",
		"2099-12-31T12:34:56.1+05:30":            "2099-12-31T07:04:56.1Z",
		"2099-12-31t12:34:56z":                   "2099-12-31T12:34:56Z",
		"2099-12-31 12:34:56-07:00":              "2099-12-31T19:34:56Z",
		"2099-12-31T12:34:56.123456789Z":         "2099-12-31T12:34:56.123456Z",
		"2099-12-31T12:34:56.123456789012+01:00": "2099-12-31T11:34:56.123456Z",
		"2099-12-31T23:59:60Z":                   "2100-01-01T00:00:00Z",
		"2099-12-31T23:59:60.5Z":                 "2100-01-01T00:00:00.5Z",
		"9999-12-31T23:59:59.999999Z":            "9999-12-31T23:59:59.999999Z",
	} {
		r := b.do(200, "PUT", "/v1/locks/"+id,
			fmt.Sprintf(`{"creator":null,"expires_at":%q}`, sent))
		require.Contains(t, r.body, `"expires_at":"`+want+`"`, sent)
	}
	// Out of range only once it is added up.
	b.do(200, "PUT", "/v1/locks/"+id, `{"expires_at":"9999-12-31T23:59:59.999999Z"}`)
	require.Contains(t, b.do(400, "GET", "/v1/locks/"+id+"/add_to_expire_at", "").body,
		"years 1 to 9999")
	b.do(400, "PUT", "/v1/locks/"+id, `{"expires_at":"9999-12-31T23:59:60Z"}`)
	// The zero time.Time; swept at once.
	b.do(200, "PUT", "/v1/locks/"+id, `{"expires_at":"0001-01-01T00:00:00Z"}`)
	require.Eventually(t, func() bool { return len(b.locks()) == 0 }, time.Second, time.Millisecond)
}

func TestSweep(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  []server.Option
		grace time.Duration
		clock time.Duration
	}{
		{name: "default grace", grace: 3 * time.Minute},
		{name: "no grace", opts: []server.Option{server.WithGrace(0)}},
		{name: "grace below zero", opts: []server.Option{server.WithGrace(-time.Hour)}},
		{name: "clock ahead", opts: []server.Option{server.WithGrace(time.Minute)},
			grace: time.Minute, clock: 7 * time.Hour},
		{name: "clock behind", opts: []server.Option{server.WithGrace(time.Minute)},
			grace: time.Minute, clock: -7 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := startOn(t, memstore.New(memstore.WithClockOffset(c.clock)), c.opts...)
				made := b.create("robot-arm-1", "")
				path := "/v1/locks/" + made.ID
				w := b.watch()
				b.do(200, "PUT", path+"/keep_alive", `{"seconds":2.5}`)
				time.Sleep(2500*time.Millisecond + c.grace - time.Millisecond)
				synctest.Wait()
				b.do(200, "GET", path, "")
				b.do(409, "POST", "/v1/locks", createBody("robot-arm-1", ""))
				b.do(200, "PUT", path+"/keep_alive", `{"seconds":2.5}`) // kept alive in its grace
				time.Sleep(2500*time.Millisecond + c.grace - time.Millisecond)
				synctest.Wait()
				b.do(200, "GET", path, "")
				w.take()
				time.Sleep(time.Second + time.Millisecond)
				synctest.Wait()
				b.do(404, "GET", path, "")
				require.Len(t, w.take(), 1)
				b.create("robot-arm-1", "")
			})
		})
	}
}

// TestSweepIsAboutTime: each of many locks with different ends goes within a second after its time,
// whatever happened last.
func TestSweepIsAboutTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithGrace(10*time.Second))
		due := map[string]time.Time{}
		for i := range 50 {
			l := b.create(fmt.Sprint("lock ", i), "")
			seconds := 1 + (i*37)%101
			b.do(200, "PUT", "/v1/locks/"+l.ID+"/keep_alive",
				fmt.Sprintf(`{"seconds":%d}`, seconds))
			due[l.ID] = time.Now().Add(time.Duration(seconds+10) * time.Second)
		}
		for len(due) > 0 {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			left := map[string]bool{}
			for _, l := range b.locks() {
				left[l.ID] = true
			}
			for id, at := range due {
				if !left[id] {
					require.False(t, time.Now().Before(at))
					delete(due, id)
				} else {
					require.True(t, time.Now().Before(at.Add(time.Second)))
				}
			}
		}
	})
}

// TestTheClockIsSet: the store's clock jumps ahead while the sweeper sleeps.
func TestTheClockIsSet(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &steppingStore{Store: memstore.New()}
		b := startOn(t, st)
		b.create("robot-arm-1", "")
		st.ahead.Store(true)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Empty(t, b.locks())
	})
}

// steppingStore has all locks due once it is ahead.
type steppingStore struct {
	store.Store
	ahead atomic.Bool
}

func (s *steppingStore) Sweep(ctx context.Context, limits store.Limits) (store.Swept, error) {
	if s.ahead.Load() {
		limits.Grace = -time.Hour
	}
	return s.Store.Sweep(ctx, limits)
}
