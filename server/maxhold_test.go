package server_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
)

// boundTo3s starts a backend that bounds how long users hold locks.
func boundTo3s(t *testing.T) *backend {
	return start(t, server.WithMaxHold(3*time.Second), server.WithKeys(
		namedKey("ada", access.User), namedKey("root", access.Admin, "bench-*")))
}

// TestMaxHoldOverHTTP: however a user sets the expiry.
func TestMaxHoldOverHTTP(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := boundTo3s(t)
		as := func(secret, method, path, body string, headers ...string) lock {
			t.Helper()
			r := b.send(t.Context(), method, "/v1/locks/"+path, body,
				append(headers, "X-API-KEY", secret)...)
			require.NoError(t, r.err)
			require.Less(t, r.status, 300, r.body)
			return r.lock(t)
		}
		for name, prefer := range map[string]string{
			"arm": "", "leased": "lease=60", "short": "lease=2",
		} {
			l := as("ada user", "POST", "", createBody(name, ""), "Prefer", prefer)
			want := 3 * time.Second
			if name == "short" {
				want = 2 * time.Second
			}
			require.Equal(t, want, l.lease(), name)
			for _, late := range []bool{false, true} {
				if late {
					time.Sleep(3500 * time.Millisecond)
				}
				for _, change := range []struct{ method, path, body string }{
					{"GET", "/keep_alive", ""}, // as PyRelukko does
					{"PUT", "/keep_alive", `{"seconds":60.0}`},
					{"GET", "/add_to_expire_at", ""},
					{"PUT", "/add_to_expire_at", `{"seconds":3600}`},
					{"PUT", "", `{"creator":null,"expires_at":"2099-12-31T12:34:56.789000+00:00"}`},
				} {
					got := as("ada user", change.method, l.ID+change.path, change.body)
					require.Equal(t, l.CreatedAt.Add(3*time.Second), got.ExpiresAt, change)
				}
				if prefer != "" {
					break // it will be swept
				}
			}
			require.Equal(t, time.Minute, as(apiKey, "PUT", l.ID+"/keep_alive",
				`{"seconds":60}`).leaseLeft(), "an admin is not bounded")
		}
		bench := as("root admin bench-*", "POST", "", createBody("bench-1", ""))
		require.Equal(t, 10*time.Minute, bench.lease(), "also one with patterns")
	})
}

// leaseLeft returns for how long the last change has renewed the lock.
func (l lock) leaseLeft() time.Duration { return l.ExpiresAt.Sub(l.UpdatedAt) }

// TestMaxHoldOnTheStream: also for what was granted from the queue, which counts from then on.
func TestMaxHoldOnTheStream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := boundTo3s(t)
		held := b.create("arm", "")
		require.Equal(t, 10*time.Minute, held.lease())
		conn, _ := b.streamOf("ada user")
		send(t, conn, "%s", acquiring(1, "arm", "aaaaaaaaaaaa"))
		time.Sleep(10 * time.Second)
		send(t, conn, `{"n":2,"ping":true}`)
		until(t, conn, `{"n":2`)
		b.delete(held.ID)
		mine := grantedOn(t, conn)
		require.Equal(t, 3*time.Second, mine.lease())
		for n := 3; n < 6; n++ {
			send(t, conn, `{"n":%d,"renew":%q,"lease":60}`, n, mine.ID)
			var renewed struct{ Lock lock }
			require.NoError(t, json.Unmarshal([]byte(next(t, conn)), &renewed))
			require.Equal(t, mine.ExpiresAt, renewed.Lock.ExpiresAt)
			time.Sleep(1800 * time.Millisecond) // the last time it has expired
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.Empty(t, b.locks(), "it is swept")

		send(t, conn, `{"n":6,"acquire_all":{"lock_names":["a","b"],`+
			`"creator":"me #bbbbbbbbbbbb","lease":60}}`)
		until(t, conn, `{"n":6`)
		for _, l := range b.locks() {
			require.Equal(t, 3*time.Second, l.lease())
		}
		require.Len(t, b.locks(), 2)

		root, _ := b.streamOf("root admin bench-*")
		send(t, root, "%s", acquiring(1, "bench-1", "cccccccccccc"))
		require.Equal(t, time.Minute, grantedOn(t, root).lease())
	})
}
