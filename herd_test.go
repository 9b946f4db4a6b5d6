package relukko_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/test/originalapi"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// A herd is a number of clients, each of which locks all names again and again.
type herd struct {
	name                    string
	clients, perName, names int // perName: mutexes of each client
	section                 time.Duration
}

// run runs the herd for a while, and returns how long each Lock waited.
func (h herd) run(t *testing.T, s *relukkotest.Server, during time.Duration) []time.Duration {
	var waits []time.Duration
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	for range h.clients {
		c := s.Client()
		for i := range h.names {
			for range h.perName {
				m := relukko.NewMutex(c, fmt.Sprint("name-", i))
				wg.Go(func() {
					for {
						began := time.Now()
						held, err := m.Lock(ctx)
						mu.Lock()
						waits = append(waits, time.Since(began))
						mu.Unlock()
						if err != nil {
							return
						}
						time.Sleep(h.section)
						require.NoError(t, m.Unlock(held))
					}
				})
			}
		}
	}
	wg.Wait()
	return waits
}

// TestHerdsWithoutExtensions runs many processes that want the same names, on a backend that does
// not queue them. Each process sends at most one request for a release, however many of its
// goroutines wait, and no goroutine starves.
func TestHerdsWithoutExtensions(t *testing.T) {
	const during = 4 * time.Second // more than the longest wait that is allowed
	for _, h := range []herd{
		{"32 waiters of 8 processes on one name", 8, 4, 1, 5 * time.Millisecond},
		{"120 waiters of 6 processes on 20 names", 6, 1, 20, 50 * time.Millisecond},
	} {
		shapes := []string{"lock", "id", "true"}
		if h.names == 1 {
			shapes = shapes[:1] // each release is of that name
		}
		for _, shape := range shapes {
			plainly(t, h.name+", deleted as "+shape, func(t *testing.T, s *relukkotest.Server) {
				like(httpapi.Original{Deleted: originalapi.DeletedShapes()[shape]})(s)
				s.Latency(func(*http.Request) (before, after time.Duration) {
					return rand.N(200 * time.Microsecond), rand.N(200 * time.Microsecond)
				})
				waits := h.run(t, s, during)
				var sum time.Duration
				for _, w := range waits {
					sum += w
				}
				mean := sum / time.Duration(len(waits))
				creates, releases := s.Requests("POST", ""), s.Requests("DELETE", "/v1/locks/{id}")
				lists := s.Requests("GET", "/v1/locks/")
				t.Logf("%d releases, %.1f creates for each; %d creates and %d Lists a second",
					releases, float64(creates)/float64(releases),
					creates/int(during/time.Second), lists/int(during/time.Second))
				t.Logf("waits: %v on average, at most %v",
					mean.Round(time.Millisecond), slices.Max(waits).Round(time.Millisecond))
				first := h.clients * h.names * h.perName // one for each waiter at the start
				require.LessOrEqual(t, creates-first, (h.clients+2)*releases)
				require.LessOrEqual(t, lists,
					h.clients*int(during/listPause+during/time.Second))
				require.Less(t, slices.Max(waits), 8*mean)
				require.Greater(t, releases, h.names*int(during/h.section)/10)
			})
		}
	}
}

const listPause = 50 * time.Millisecond // between two Lists of one client
