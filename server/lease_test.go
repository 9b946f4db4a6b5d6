package server_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// lease returns for how long a lock was created.
func (l lock) lease() time.Duration { return l.ExpiresAt.Sub(l.CreatedAt) }

func TestLeasedLockIsSweptATenthAfterItsLease(t *testing.T) {
	for prefer, c := range map[string]struct{ lease, grace time.Duration }{
		"lease=1.5":           {1500 * time.Millisecond, time.Second},
		"lease=30, wait=5":    {30 * time.Second, 3 * time.Second},
		"respond, lease=3600": {time.Hour, 10 * time.Second},
	} {
		t.Run(prefer, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t)
				b.create("plain", "")
				time.Sleep(time.Hour) // the clock has been steady
				r := b.do(201, "POST", "/v1/locks", createBody("robot-arm-1", ""), "Prefer", prefer)
				require.Equal(t, "lease", r.header.Get("Preference-Applied"))
				l := r.lock(t)
				require.Equal(t, c.lease, l.lease())
				time.Sleep(c.lease + c.grace - time.Millisecond)
				require.Len(t, b.locks(), 1)
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
				require.Empty(t, b.locks())
			})
		})
	}
}

// members returns the names of the members of a JSON object.
func members(t *testing.T, object string) []string {
	t.Helper()
	var all map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(object), &all), object)
	return slices.Sorted(maps.Keys(all))
}

// TestLeaseIsNotInTheLock: it has the same members as any other.
func TestLeaseIsNotInTheLock(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		plain := b.do(201, "POST", "/v1/locks", createBody("plain", ""))
		require.Empty(t, plain.header.Get("Preference-Applied"))
		leased := b.do(201, "POST", "/v1/locks", createBody("leased", ""), "Prefer", "lease=60")
		require.Equal(t, members(t, plain.body), members(t, leased.body))
		for _, nonsense := range []string{"lease", "lease=0.4", "lease=31536001", "lease=x"} {
			r := b.do(201, "POST", "/v1/locks", createBody(nonsense, ""), "Prefer", nonsense)
			require.Empty(t, r.header.Get("Preference-Applied"))
			require.Equal(t, 10*time.Minute, r.lock(t).lease())
		}
	})
}

func TestLeaseFromTheQueue(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		body := createBody("robot-arm-1", "")
		held := b.create("robot-arm-1", "")
		r := b.do(409, "POST", "/v1/locks", body, "Prefer", "lease=5")
		require.Empty(t, r.header.Get("Preference-Applied"))
		r = b.do(409, "POST", "/v1/locks", body, "Prefer", "lease=5, wait=3")
		require.Equal(t, "wait", r.header.Get("Preference-Applied"))

		answer := make(chan reply, 1)
		go func() {
			answer <- b.send(t.Context(), "POST", "/v1/locks", body, "Prefer", "lease=5, wait=30")
		}()
		time.Sleep(20 * time.Second)
		released := time.Now()
		b.delete(held.ID)
		r = <-answer
		require.Equal(t, 201, r.status)
		require.Equal(t, "wait, lease", r.header.Get("Preference-Applied"))
		l := r.lock(t)
		require.Equal(t, 5*time.Second, l.lease(), "from its grant")
		require.Equal(t, released.UTC(), l.CreatedAt)
		time.Sleep(6*time.Second + time.Millisecond)
		synctest.Wait()
		require.Empty(t, b.locks())
	})
}

// TestRenewalKeepsALockLeased: the lease that it sets counts.
func TestRenewalKeepsALockLeased(t *testing.T) {
	for path, c := range map[string]struct {
		body  string
		after time.Duration // from then until the lock is swept
	}{
		"/keep_alive":       {`{"seconds":50}`, 55 * time.Second},
		"/add_to_expire_at": {`{"seconds":-10}`, 55 * time.Second},
		"":                  {`{"creator":"bench-7"}`, 66 * time.Second},
	} {
		t.Run(path, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t)
				r := b.do(201, "POST", "/v1/locks", createBody("robot-arm-1", ""),
					"Prefer", "lease=60")
				b.do(200, "PUT", "/v1/locks/"+r.lock(t).ID+path, c.body)
				time.Sleep(c.after - time.Millisecond)
				require.Len(t, b.locks(), 1)
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
				require.Empty(t, b.locks())
			})
		})
	}
}
