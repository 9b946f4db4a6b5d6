package server_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	mark   = "k3v5x2m4q7ab"
	marked = "bench-7/42 #" + mark
)

// TestOursAndTheOriginal: what a backend has beyond the original API, and that one like the
// original has nothing of it.
func TestOursAndTheOriginal(t *testing.T) {
	for name, ours := range map[string]bool{"ours": true, "original": false} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				kind := httpapi.LikeOriginal(httpapi.Original{})
				if ours {
					kind = httpapi.Ours()
				}
				b := start(t, kind)
				w := b.watch()

				r := b.do(201, "POST", "/v1/locks", createBody("robot-arm-1", marked))
				held := r.lock(t)
				require.Equal(t, ours, r.header.Get("Relukko-Wait") == "30")
				require.Equal(t, ours, held.FencingToken != nil)
				require.Equal(t, ours, strings.Contains(r.body, `"owner":"default"`))
				require.Equal(t, ours,
					b.do(200, "GET", "/v1/locks/"+held.ID+"?waiters=1", "").lock(t).Waiters != nil)
				require.Equal(t, ours, b.locks()[0].Waiters != nil)

				r = b.do(201, "POST", "/v1/locks", createBody("leased", ""), "Prefer", "lease=60")
				require.Equal(t, ours, r.header.Get("Preference-Applied") == "lease")
				require.Equal(t, ours, r.lock(t).lease() == time.Minute)
				b.delete(r.lock(t).ID)

				asked := time.Now()
				r = b.do(409, "POST", "/v1/locks", createBody("robot-arm-1", ""),
					"Prefer", "wait=5")
				require.Equal(t, ours, time.Since(asked) == 5*time.Second)
				require.Equal(t, ours, r.header.Get("Preference-Applied") == "wait")
				require.Equal(t, ours, strings.Contains(r.body, `"lock":{"id":"`+held.ID))

				for path, status := range map[string]int{
					"/v1/waiting/": 200, "/v1/history/": 200, "/v1/stream": 426,
				} {
					if !ours {
						status = 404
					}
					require.Equal(t, status, b.send(t.Context(), "GET", path, "").status)
				}
				b.delete(held.ID)
				b.delete(b.create("robot-arm-1", marked).ID)
				synctest.Wait()
				got := strings.Join(w.take(), "")
				require.Equal(t, ours, !strings.Contains(got, `{"deleted":true}`))
				require.Equal(t, ours, strings.Contains(got, `{"created":{"id"`))
				require.Equal(t, ours, strings.Contains(got, `"fencing_token"`))
			})
		})
	}
}

func TestShapesOfTheOriginal(t *testing.T) {
	for name, c := range map[string]struct {
		deleted func(wire.Lock) any
		want    []string
	}{
		"true": {nil, []string{`{"deleted":true}`}},
		"a name": {func(l wire.Lock) any { return l.Name },
			[]string{`{"deleted":"robot-arm-1"}`}},
		"a list": {func(l wire.Lock) any {
			return []any{json.RawMessage(wire.AppendLock(nil, &l))}
		}, []string{`{"deleted":[{"id":`}},
		"no JSON": {func(wire.Lock) any { return func() {} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t, httpapi.LikeOriginal(httpapi.Original{Deleted: c.deleted}))
				w := b.watch()
				b.delete(b.create("robot-arm-1", "").ID)
				synctest.Wait()
				got := w.take()
				require.Len(t, got, len(c.want))
				for i := range got {
					require.Contains(t, got[i], c.want[i])
				}
			})
		})
	}
}

func TestGoneStatusOfTheOriginal(t *testing.T) {
	b := start(t, httpapi.LikeOriginal(httpapi.Original{Gone: 422, NoSocket: true}))
	b.do(422, "GET", "/v1/locks/"+nobody, "")
	b.do(422, "DELETE", "/v1/locks/"+nobody, "")
	b.do(422, "GET", "/v1/locks/17", "")
	b.do(404, "GET", "/v2", "")
	b.do(404, "GET", "/ws/broadcast", "")
}
