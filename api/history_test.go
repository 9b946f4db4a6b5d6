package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// TestHistory pages through what has ended, with a server of our own.
func TestHistory(t *testing.T) {
	s := relukkotest.NewServer(t)
	c := s.Client()
	none, err := c.History(t.Context(), api.HistoryQuery{})
	require.NoError(t, err)
	require.NotNil(t, none)
	require.Empty(t, none)
	for i := range 5 {
		lock, err := c.Create(t.Context(), fmt.Sprint("arm ", i%2), "Ada #k3v9x2m4q7ab")
		require.NoError(t, err)
		_, err = c.Delete(t.Context(), lock.ID, api.Reason(""))
		require.NoError(t, err)
	}
	all, err := c.History(t.Context(), api.HistoryQuery{})
	require.NoError(t, err)
	require.Len(t, all, 5)
	e := all[0]
	require.Equal(t, "arm 0", e.Name)
	require.Equal(t, "Ada", e.Creator, "without its mark")
	require.Equal(t, "default", e.Owner)
	require.Equal(t, "broken", e.How, "an empty reason is one")
	require.Equal(t, "default", e.By)
	require.NotZero(t, e.FencingToken)
	require.Equal(t, time.UTC, e.EndedAt.Location())
	for want, q := range map[int]api.HistoryQuery{
		3: {Name: "arm 0"},
		2: {Limit: 2},
		4: {Until: all[1].EndedAt},
		1: {Since: all[0].EndedAt},
	} {
		some, err := c.History(t.Context(), q)
		require.NoError(t, err)
		require.Len(t, some, want)
		require.Subset(t, all, some)
	}
	for _, q := range []api.HistoryQuery{{Limit: -1}, {Limit: 10_001}, {Name: "\xff"}} {
		_, err = c.History(t.Context(), q)
		require.Error(t, err)
		require.True(t, api.NoEffect(err))
	}
}

// TestWaiting lists those who wait.
func TestWaiting(t *testing.T) {
	s := relukkotest.NewServer(t)
	c := s.Client()
	_, err := c.Create(t.Context(), "arm", "Ada")
	require.NoError(t, err)
	go c.Create(t.Context(), "arm", "Bob #k3v9x2m4q7ab", api.Wait(30*time.Second))
	var waiters []api.Waiter
	require.Eventually(t, func() bool {
		waiters, err = c.Waiting(t.Context())
		require.NoError(t, err)
		return len(waiters) > 0
	}, 10*time.Second, time.Millisecond)
	w := waiters[0]
	require.Equal(t, []string{"arm"}, w.Names)
	require.Equal(t, "Bob", w.Creator)
	require.Equal(t, "default", w.Owner)
	require.WithinDuration(t, time.Now(), w.Since, time.Minute)
}

// TestUnsupported: other backends have no history and list no waiters.
func TestUnsupported(t *testing.T) {
	for _, status := range []int{404, 405, 501} {
		ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
		}))
		defer ts.Close()
		c, err := api.New(ts.URL, "key")
		require.NoError(t, err)
		defer c.Close()
		_, err = c.History(t.Context(), api.HistoryQuery{})
		require.ErrorIs(t, err, api.ErrUnsupported)
		_, err = c.Waiting(t.Context())
		require.ErrorIs(t, err, api.ErrUnsupported)
		_, err = c.List(t.Context(), api.Once())
		require.NotErrorIs(t, err, api.ErrUnsupported)
	}
}

// TestWrongReports are errors.
func TestWrongReports(t *testing.T) {
	const entry = `{"id":"950daa20-a814-451e-9407-ec496cf9c136","lock_name":"arm",` +
		`"created_at":"2026-01-02T03:04:05Z","ended_at":"2026-01-02T03:04:05Z","ended":"released"}`
	for body, message := range map[string]string{
		``:                   "it is not a JSON array",
		`{}`:                 "it is not a JSON array",
		`[1]`:                "it is not what was asked for",
		`[{}]`:               "element 0 is not an entry of the history: its id is not a UUID",
		`[` + entry + `,{}]`: "element 1 is not an entry of the history",
		`[` + entry + `]`:    "",
	} {
		ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(body))
		}))
		c, err := api.New(ts.URL, "key")
		require.NoError(t, err)
		all, err := c.History(t.Context(), api.HistoryQuery{})
		if message == "" {
			require.NoError(t, err)
			require.Len(t, all, 1)
		} else {
			require.ErrorContains(t, err, message)
			require.Nil(t, all)
		}
		ts.Close()
		require.NoError(t, c.Close())
	}
}
