package relukko_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
)

// TestTheBackendBoundsHowLongALockIsHeld: the context of a user's lock ends in time, a tenth of its
// lease before, and says why. With an admin's key nothing is bounded.
func TestTheBackendBoundsHowLongALockIsHeld(t *testing.T) {
	for _, row := range []struct {
		name             string
		bound, ttl       time.Duration
		earliest, latest time.Duration // how long before the bound the context ends
	}{
		{"shorter than the TTL", 3 * time.Second, time.Minute,
			300 * time.Millisecond, 299 * time.Millisecond},
		{"shorter than a first heartbeat", 500 * time.Millisecond, time.Minute,
			50 * time.Millisecond, 49 * time.Millisecond},
		// Of the first lease that was cut short: that is more than two thirds of a TTL.
		{"longer than the TTL", time.Hour, time.Minute, 6 * time.Second, 2 * time.Second},
		{"as long as the TTL", 2 * time.Second, 2 * time.Second,
			200 * time.Millisecond, 120 * time.Millisecond},
	} {
		for kind, opts := range map[string][]relukkotest.Option{
			"stream": nil, "plain": {relukkotest.WithoutStream()},
		} {
			opts = append(opts, relukkotest.Backend(server.WithMaxHold(row.bound),
				server.WithKeys(keyOf("user", "ada", access.User))))
			bubble(t, row.name+"/"+kind, func(t *testing.T, s *relukkotest.Server) {
				user, err := api.New(s.URL, "user", api.WithHTTPClient(s.HTTPClient()))
				require.NoError(t, err)
				defer user.Close()
				m := relukko.NewMutex(user, "arm", relukko.WithTTL(row.ttl))
				held := lock(t, m)
				bound := session(t, held).Info().CreatedAt.Add(row.bound)
				<-held.Done()
				before := time.Until(bound).Round(time.Microsecond)
				require.LessOrEqual(t, before, row.earliest)
				require.GreaterOrEqual(t, before, row.latest)
				lost := requireLost(t, held, relukko.LossMaxHold)
				require.NoError(t, lost.Err)
				require.WithinDuration(t, bound, lost.Deadline, time.Microsecond)
				require.ErrorContains(t, context.Cause(held),
					"held for as long as the backend allows (its --max-hold)")
				require.Equal(t, lost, m.Unlock(held))
				synctest.Wait()
				require.Empty(t, s.Locks(), "the rest of the lease is given back")

				admin := relukko.NewMutex(s.Client(), "arm", relukko.WithTTL(row.ttl))
				held = lock(t, admin)
				time.Sleep(2 * row.bound)
				require.NoError(t, held.Err())
				require.NoError(t, admin.Unlock(held))
			}, opts...)
		}
	}
}

// TestABoundAndAnOutage: where no renewal is acknowledged before the bound is known, the loss is
// one of an outage.
func TestABoundAndAnOutage(t *testing.T) {
	bubble(t, "", func(t *testing.T, s *relukkotest.Server) {
		user, err := api.New(s.URL, "user", api.WithHTTPClient(s.HTTPClient()))
		require.NoError(t, err)
		defer user.Close()
		m := relukko.NewMutex(user, "arm")
		held := lock(t, m)
		time.Sleep(30 * time.Minute)
		s.GoDark()
		<-held.Done()
		requireLost(t, held, relukko.LossUnreachable)
		s.Heal()
		require.Error(t, m.Unlock(held))
		synctest.Wait()
	}, relukkotest.Backend(server.WithMaxHold(time.Hour),
		server.WithKeys(keyOf("user", "ada", access.User))))
}
