package cli

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestHistory(t *testing.T) {
	t.Parallel()
	s, ids := locked(t, "arm", "dongle")
	succeeds(t, s, "release", ids["dongle"])
	succeeds(t, s, "rm", "arm", "--reason", "it smokes")

	out := strings.Split(succeeds(t, s, "history"), "\n")
	require.Len(t, out, 4)
	require.Regexp(t, `^NAME +HOLDER +IP +FROM +TO +HELD +WAITED +ENDED +BY +REASON$`, out[0])
	require.Regexp(t, `^arm +Ada@bench/7 +127\.0\.0\.1 +20\d\d-.* +20\d\d-.* +\S+ +0s +broken +`+
		`default +\S+@\S+ \(it smokes\)$`, out[1])
	require.Regexp(t, `^dongle +Ada@bench/7 .* +released +default +-$`, out[2])
	require.NotContains(t, succeeds(t, s, "history", "arm"), "dongle")
	require.NotContains(t, succeeds(t, s, "history", "--limit", "1"), "dongle")
	require.Contains(t, succeeds(t, s, "history", "--limit", "9223372036854775807"), "dongle")

	var all []struct {
		ID, Ended string
		Waited    *float64
	}
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, s, "history", "--json")), &all))
	require.Len(t, all, 2)
	require.Equal(t, ids["arm"], all[0].ID)
	require.Equal(t, "broken", all[0].Ended)
	require.NotNil(t, all[0].Waited)
}

func TestHistoryOfNone(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	for _, command := range []string{"history", "usage", "queue"} {
		status, stdout, stderr := run(t, of(s), command)
		require.Zero(t, status)
		require.Empty(t, stdout)
		require.Regexp(t, "^relukko: (no lock has ended in the last 7d|"+
			"nobody held a lock in the last 30d|nobody waits)\n$", stderr)
		require.Equal(t, "[]\n", succeeds(t, s, command, "--json"))
	}
}

// An original backend has none of it, and the error says what does.
func TestHistoryOfAnotherBackend(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	s.Reconfigure(httpapi.LikeOriginal(httpapi.Original{}))
	for _, command := range []string{"history", "usage", "queue"} {
		status, _, stderr := run(t, of(s), command)
		require.Equal(t, statusUnavailable, status)
		require.Contains(t, stderr, "It takes a backend of this project")
	}
}

// Paging gives each entry once, also where several end at one instant.
func TestHistoryIsPaged(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	all := make([]wire.Ended, 25_001)
	for i := range all {
		ended := at.Add(-time.Duration(i/3) * time.Microsecond)
		all[i] = wire.Ended{
			ID: wire.NewID(), Name: "arm", Ended: "released", CreatedAt: ended, EndedAt: ended,
		}
	}
	pages := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		pages++
		some := all
		if until, err := time.Parse(time.RFC3339Nano, r.FormValue("until")); err == nil {
			first, _ := slices.BinarySearchFunc(all, until, func(e wire.Ended, t time.Time) int {
				return t.Compare(e.EndedAt)
			})
			some = all[first:]
		}
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		_ = json.NewEncoder(w).Encode(some[:min(limit, len(some))])
	}))
	defer s.Close()
	c, err := api.New(s.URL, "key")
	require.NoError(t, err)
	defer c.Close()
	for _, most := range []int{7, 10_000, 10_001, 25_001, 30_000} {
		ask := func(q api.HistoryQuery) ([]api.Ended, error) { return c.History(t.Context(), q) }
		got, err := historyOf(ask, api.HistoryQuery{}, most)
		require.NoError(t, err)
		require.Len(t, got, min(most, len(all)))
		for i := range got {
			require.Equal(t, all[i].ID, got[i].ID)
		}
	}
	require.Equal(t, 1+1+2+3+3, pages)
}

// slowHistory answers each request for a page after 4 s, and has three pages.
type slowHistory struct{ pages int }

func (s *slowHistory) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(4 * time.Second)
	s.pages++
	page := make([]wire.Ended, api.MaxHistory)
	if s.pages == 3 {
		page = page[:1]
	}
	for i := range page {
		at := time.Unix(1_700_000_000, 0).Add(-time.Duration(s.pages) * time.Second)
		page[i] = wire.Ended{
			ID: wire.NewID(), Name: "arm", Ended: "released", CreatedAt: at, EndedAt: at,
		}
	}
	w := httptest.NewRecorder()
	_ = json.NewEncoder(w).Encode(page)
	return w.Result(), nil
}

// Each page has the whole time-out, however many there are.
func TestHistoryOfManyPages(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, err := api.New("http://backend:3000", "key",
			api.WithHTTPClient(&http.Client{Transport: new(slowHistory)}))
		require.NoError(t, err)
		a := &asking{timeout: 5 * time.Second}
		require.NoError(t, a.with(c, func(_ context.Context, c *api.Client) error {
			all, err := historyOf(a.history(c), api.HistoryQuery{}, math.MaxInt)
			require.NoError(t, err)
			require.Len(t, all, 2*api.MaxHistory+1)
			return nil
		}))
	})
}

func TestUsage(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	of := newTally(now.Add(-100*time.Hour), now)
	at := func(hours float64) time.Time {
		return of.since.Add(time.Duration(hours * float64(time.Hour)))
	}
	stay := func(name string, from, to float64, how string, waited time.Duration) {
		of.ended(api.Ended{
			Lock: api.Lock{Name: name, CreatedAt: at(from)}, EndedAt: at(to), How: how,
			Waited: waited,
		})
	}
	stay("arm", -10, 10, "released", 0) // 10 h of it count
	stay("arm", 20, 21, "broken", time.Minute)
	stay("arm", 30, 32, "expired", time.Hour)
	stay("arm", 50, 90, "cancelled", 0)
	stay("idle", 0, 1, "released", 0)
	of.add(api.Lock{Name: "arm", CreatedAt: at(95)}, now) // still held
	require.Equal(t, []lockUsage{
		{Name: "arm", Share: 0.18, Stays: 4, HeldMedian: 7200, Held95: 72000, WaitMedian: 60,
			Wait95: 3600, Broken: 1, Expired: 1},
		{Name: "idle", Share: 0.01, Stays: 1, HeldMedian: 3600, Held95: 3600},
	}, of.all())
}

func TestUsageOfABackend(t *testing.T) {
	t.Parallel()
	s, ids := locked(t, "arm", "dongle", "bench")
	succeeds(t, s, "release", ids["dongle"])
	out := strings.Split(succeeds(t, s, "usage", "arm", "dongle"), "\n")
	require.Len(t, out, 4)
	require.Regexp(t, `^NAME +BUSY +STAYS +HELD +95% +WAITED +95% +BROKEN +EXPIRED$`, out[0])
	require.Contains(t, strings.Join(out, "\n"), "arm     0.0%  1 ")
	require.Contains(t, strings.Join(out, "\n"), "dongle  0.0%  1 ")
	require.Contains(t, succeeds(t, s, "usage"), "bench")
	var all []lockUsage
	require.NoError(t, json.Unmarshal([]byte(succeeds(t, s, "usage", "--json")), &all))
	require.Len(t, all, 3)
}

func TestQueue(t *testing.T) {
	t.Parallel()
	s, ids := locked(t, "arm")
	done := make(chan error, 1)
	go func() {
		_, err := s.Client().Create(t.Context(), "arm", "Bob", api.Wait(30*time.Second))
		done <- err
	}()
	require.Eventually(t, func() bool {
		return strings.Contains(succeeds(t, s, "queue", "arm", "--json"), "Bob")
	}, patience, 10*time.Millisecond)
	require.Regexp(t, `^NAME +WAITER +IP +WAITS +PRIORITY\narm +Bob +127\.0\.0\.1 +\ds +0\n$`,
		succeeds(t, s, "queue"))
	require.Equal(t, "[]\n", succeeds(t, s, "queue", "dongle", "--json"))
	succeeds(t, s, "release", ids["arm"])
	require.NoError(t, <-done)
}
