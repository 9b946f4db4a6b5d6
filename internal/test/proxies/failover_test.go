//go:build unix

package proxies

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
)

// Of two servers on one database, behind a proxy, one after the other is killed and started again.
// The holder loses nothing, and the waiter is served.
func TestFailover(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]runner{"nginx": recommended, "Caddy": caddy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := postgres.Database(t)
			one, oneAt := serveStore(t, database, "127.0.0.1:0")
			two, twoAt := serveStore(t, database, "127.0.0.1:0")
			p := run(t, oneAt, twoAt)
			const ttl = 10 * time.Second
			mutex := relukko.NewMutex(p.client(), "arm", relukko.WithTTL(ttl))
			held, err := mutex.Lock(t.Context())
			require.NoError(t, err)
			waiting := p.wait(ttl)

			one.kill()
			time.Sleep(ttl / 2)
			require.NoError(t, held.Err())
			serveStore(t, database, oneAt)
			two.kill()
			time.Sleep(ttl + ttl/5) // so that the lease is one of the other server
			took := handsOff(t, mutex, held, waiting)
			t.Logf("hand-over in %v", took)
			require.Less(t, took, 2*time.Second)
			require.NoError(t, waiting.held.Err())
			require.NoError(t, waiting.mutex.Unlock(waiting.held))
		})
	}
}
