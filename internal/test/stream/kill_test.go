//go:build linux

package stream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
)

// TestKilledHolderCostsItsLease kills holders at random instants: while they acquire, within their
// first 10 ms, and later.
func TestKilledHolderCostsItsLease(t *testing.T) {
	parallel(t)
	const ttl = 5 * time.Second
	most := scaled(8*time.Second, 6500*time.Millisecond) // other tests take processor time
	kills := scaled(6, 50)
	for _, store := range stores {
		t.Run(store.name, func(t *testing.T) {
			parallel(t)
			n := serve(t, store.url(t))
			next := newClient(t, n.url)
			var mu sync.Mutex
			var took []time.Duration
			t.Run("kills", func(t *testing.T) {
				for i := range kills {
					t.Run(fmt.Sprint(i), func(t *testing.T) {
						t.Parallel()
						name := fmt.Sprint("killed-", i)
						w := startWorker(t, workerConfig{
							URL: n.url, Name: name, Count: 1, TTL: ttl, Creator: "holder",
						})
						switch i % 3 {
						case 0: // while it acquires
							pause(rand.N(20 * time.Millisecond))
						case 1:
							w.next("locked")
							pause(rand.N(10 * time.Millisecond))
						case 2:
							w.next("locked")
							pause(rand.N(3 * time.Second))
						}
						l := lockSoon(t, next, name+"-0", relukko.WithTTL(ttl))
						w.kill()
						killed := time.Now()
						d := l.wait(t).Sub(killed)
						l.unlock(t)
						require.Less(t, d, most)
						mu.Lock()
						defer mu.Unlock()
						took = append(took, d)
					})
				}
			})
			require.Len(t, took, kills)
			slices.Sort(took)
			median, longest := took[len(took)/2], took[len(took)-1]
			fmt.Printf("%s: %d of %d, median %v, longest %v\n", t.Name(), kills, kills,
				median.Round(time.Millisecond), longest.Round(time.Millisecond))
		})
	}
}

// TestKilledWaiterCostsNothing kills the waiter that is next.
func TestKilledWaiterCostsNothing(t *testing.T) {
	parallel(t)
	for _, store := range stores {
		t.Run(store.name, func(t *testing.T) {
			parallel(t)
			n := serve(t, store.url(t))
			c := newClient(t, n.url)
			var longest time.Duration
			for i := range scaled(3, 20) {
				name := fmt.Sprint("waited-", i)
				holder := lockSoon(t, c, name+"-0", relukko.WithTTL(10*time.Second))
				holder.wait(t)
				w := startWorker(t, workerConfig{
					URL: n.url, Name: name, Count: 1, TTL: time.Minute, Creator: "waiter",
				})
				awaitWaiters(t, n.url, name+"-0", 1)
				next := lockSoon(t, c, name+"-0")
				awaitWaiters(t, n.url, name+"-0", 2)
				w.kill()
				pause(20 * time.Millisecond) // until the server has read the end of the connection
				released := time.Now()
				holder.unlock(t)
				longest = max(longest, next.wait(t).Sub(released))
				next.unlock(t)
			}
			fmt.Printf("%s: %v at most\n", t.Name(), longest.Round(time.Microsecond))
			require.Less(t, longest, 5*time.Second) // its lease is a minute
		})
	}
}

// awaitWaiters waits until n requests wait for a name.
func awaitWaiters(t testing.TB, url, name string, n int) {
	t.Helper()
	await(t, fmt.Sprint(n, " wait for ", name), func() bool {
		return len(waiting(t, url, name)) == n
	})
}
