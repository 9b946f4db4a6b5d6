package relukko_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// BenchmarkUncontended alternates Lock and Unlock with a bare POST and DELETE by net/http on the
// same backend. It reports both medians in µs, and their ratio.
func BenchmarkUncontended(b *testing.B) {
	s := relukkotest.NewServer(b)
	m := relukko.NewMutex(s.Client(), "guarded")
	client := s.HTTPClient()
	var guarded, bare []time.Duration
	for b.Loop() {
		guarded = append(guarded, timed(func() {
			held, err := m.Lock(context.Background())
			require.NoError(b, err)
			require.NoError(b, m.Unlock(held))
		}))
		bare = append(bare, timed(func() {
			var lock struct{ ID string }
			body := bareRequest(b, client, s, "POST", "/v1/locks/",
				`{"lock_name":"bare","creator":"me"}`)
			require.NoError(b, json.Unmarshal(body, &lock))
			bareRequest(b, client, s, "DELETE", "/v1/locks/"+lock.ID, "")
		}))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(micros(median(guarded)), "µs/guarded")
	b.ReportMetric(micros(median(bare)), "µs/bare")
	b.ReportMetric(float64(median(guarded))/float64(median(bare)), "guarded/bare")
}

func bareRequest(
	b *testing.B, client *http.Client, s *relukkotest.Server, method, path, body string,
) []byte {
	r, err := http.NewRequest(method, s.URL+path, bytes.NewReader([]byte(body)))
	require.NoError(b, err)
	r.Header.Set("X-API-KEY", s.APIKey)
	answer, err := client.Do(r)
	require.NoError(b, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(b, err)
	return text
}

// BenchmarkHandoff measures the time from one client's Unlock to the return of another client's
// waiting Lock, in ms: with the backend's extensions, and with its WebSocket only.
func BenchmarkHandoff(b *testing.B) {
	for _, kind := range []struct {
		name  string
		setUp func(*relukkotest.Server)
	}{
		{"extensions", func(*relukkotest.Server) {}},
		{"WebSocket", original},
	} {
		b.Run(kind.name, func(b *testing.B) {
			s := relukkotest.NewServer(b)
			kind.setUp(s)
			holder := relukko.NewMutex(s.Client(), "arm")
			waiter := relukko.NewMutex(s.Client(), "arm")
			var took []time.Duration
			held, err := holder.Lock(context.Background())
			require.NoError(b, err)
			for b.Loop() {
				type acquired struct {
					ctx context.Context
					at  time.Time
				}
				next := make(chan acquired)
				go func() {
					ctx, err := waiter.Lock(context.Background())
					if err != nil {
						b.Error(err)
					}
					next <- acquired{ctx, time.Now()}
				}()
				time.Sleep(20 * time.Millisecond) // until it waits
				start := time.Now()
				require.NoError(b, holder.Unlock(held))
				got := <-next
				took = append(took, got.at.Sub(start))
				held, holder, waiter = got.ctx, waiter, holder
			}
			require.NoError(b, holder.Unlock(held))
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(micros(median(took))/1000, "ms/handoff")
		})
	}
}

// BenchmarkOneMutex measures Lock and Unlock by 100 goroutines that share one Mutex, with
// WithHandoff and without.
func BenchmarkOneMutex(b *testing.B) {
	for _, kind := range []struct {
		name string
		opts []relukko.Option
	}{
		{"handed over", []relukko.Option{relukko.WithHandoff()}},
		{"released", nil},
	} {
		b.Run(kind.name, func(b *testing.B) {
			m := relukko.NewMutex(relukkotest.NewServer(b).Client(), "arm", kind.opts...)
			b.SetParallelism(100 / runtime.GOMAXPROCS(0))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					held, err := m.Lock(context.Background())
					if err != nil || m.Unlock(held) != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
