package relukkotest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/relukkotest"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// onBothNetworks runs f with a server on loopback, and with one in memory inside a bubble.
func onBothNetworks(t *testing.T, f func(t *testing.T, s *relukkotest.Server),
	opts ...relukkotest.Option) {
	t.Run("loopback", func(t *testing.T) {
		t.Parallel()
		f(t, relukkotest.NewServer(t, opts...))
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		bubble.Test(t, func(t *testing.T) {
			f(t, relukkotest.NewServer(t, append(opts, relukkotest.InMemory())...))
		})
	})
}

// caller sends plain requests, and retries nothing.
type caller struct {
	*http.Client
	url, key string
}

func newCaller(s *relukkotest.Server) caller { return caller{s.HTTPClient(), s.URL, s.APIKey} }

// answer is what came of a request.
type answer struct {
	status int
	header http.Header
	body   string
}

func (c caller) do(ctx context.Context, method, path, body string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("X-API-KEY", c.key)
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

func (c caller) create(ctx context.Context, name string) (answer, error) {
	return c.do(ctx, "POST", "/v1/locks/", `{"lock_name": "`+name+`", "creator": null}`)
}

// mustCreate creates a lock and returns its id.
func (c caller) mustCreate(t *testing.T, name string) string {
	t.Helper()
	a, err := c.create(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, a.status, a.body)
	var lock struct{ ID string }
	require.NoError(t, json.Unmarshal([]byte(a.body), &lock))
	return lock.ID
}

func names(locks []store.Lock) []string {
	var names []string
	for _, l := range locks {
		names = append(names, l.Name)
	}
	return names
}

func TestAServerServes(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		newCaller(s).mustCreate(t, "arm")
		lock, err := s.Client().Create(t.Context(), "gripper", "somebody")
		require.NoError(t, err)
		require.Equal(t, "gripper", lock.Name)
		require.Equal(t, []string{"arm", "gripper"}, names(s.Locks()))
	})
}

func TestRequestsAreCounted(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		id := c.mustCreate(t, "arm")
		for _, r := range [][2]string{
			{"GET", "/v1/locks"},
			{"GET", "/v1/locks/"},
			{"GET", "/v1/locks/" + id},
			{"PUT", "/v1/locks/" + id + "/keep_alive"},
			{"DELETE", "/v1/locks/" + id},
		} {
			_, err := c.do(t.Context(), r[0], r[1], `{"seconds": 60}`)
			require.NoError(t, err)
		}
		for _, row := range []struct {
			method, path string
			want         int
		}{
			{"", "", 6},
			{"GET", "", 3},
			{"POST", "/v1/locks/", 1},
			{"GET", "/v1/locks/{$}", 2},
			{"GET", "/v1/locks/{id}", 1},
			{"", "/v1/locks/{id}", 3},
			{"", "/v1/locks/{id}/keep_alive", 1},
			{"", "/v1/locks/{id}{$}", 2},
			{"PATCH", "", 0},
		} {
			require.Equal(t, row.want, s.Requests(row.method, row.path), "%s %s", row.method,
				row.path)
		}
	})
}

func TestOnKnowsIDs(t *testing.T) {
	r, err := http.NewRequest("PUT",
		"http://there/v1/locks/950daa20-a814-451e-9407-ec496cf9c136/keep_alive", nil)
	require.NoError(t, err)
	for pattern, want := range map[string]bool{
		"":              true,
		"/v1/locks/":    true,
		"/v1/locks/{$}": false,
		"/v1/locks/950": true,
		"/v1/locks/951": false,
		"/v1/locks/950daa20-a814-451e-9407-ec496cf9c136/keep_alive{$}": true,
		"/v1/locks/{id}/keep_alive":                                    true,
		"/v1/locks/{id}{$}":                                            false,
	} {
		require.Equal(t, want, relukkotest.On("PUT", pattern)(r), pattern)
		require.Equal(t, want, relukkotest.On("", pattern)(r), pattern)
		require.False(t, relukkotest.On("GET", pattern)(r), pattern)
	}
}

func TestDeleteAndExpire(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		c.mustCreate(t, "arm")
		c.mustCreate(t, "gripper")

		s.GoDark() // another client has another way
		s.FailNext(-1, 503)
		requests := s.Requests("", "")
		require.True(t, s.Delete("arm"))
		require.False(t, s.Delete("arm"))
		require.True(t, s.Expire("gripper"))
		require.Equal(t, requests, s.Requests("", ""))
		require.Equal(t, []string{"gripper"}, names(s.Locks()))
		require.WithinDuration(t, time.Now().Add(-7*time.Hour), s.Locks()[0].ExpiresAt,
			10*time.Second)

		s.Stop()
		require.False(t, s.Delete("gripper"))
		require.Equal(t, []string{"gripper"}, names(s.Locks()))
	}, relukkotest.ClockOffset(-7*time.Hour))
}

func TestTheLongExpiredAreSwept(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		newCaller(s).mustCreate(t, "arm")
		w, err := s.Client().Watch(t.Context())
		require.NoError(t, err)
		<-w.Events() // connected
		require.True(t, s.ExpireIn("arm", -4*time.Minute))
		for e := range w.Events() {
			if e.Name == "arm" && len(s.Locks()) == 0 {
				break
			}
		}
	})
}

func TestStopAndStart(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		url := s.URL
		c.mustCreate(t, "arm")
		other := s.NewLink()

		s.Stop()
		s.Stop()
		_, err := c.create(t.Context(), "gripper")
		require.ErrorContains(t, err, "connection refused")

		s.Start(true)
		require.Equal(t, url, s.URL)
		require.Equal(t, []string{"arm"}, names(s.Locks()))
		c.mustCreate(t, "gripper")
		require.NoError(t, other.Client().Health(t.Context()))

		s.Start(false) // also of a backend that runs
		require.Empty(t, s.Locks())
		c.mustCreate(t, "arm")
	})
}

func TestAStopCutsWhatIsUnderWay(t *testing.T) {
	onBothNetworks(t, func(t *testing.T, s *relukkotest.Server) {
		c := newCaller(s)
		c.mustCreate(t, "arm")
		before, after := s.Hold(relukkotest.On("GET", "")), s.HoldReplies(
			relukkotest.On("POST", ""))
		failed := make(chan error)
		go func() {
			_, err := c.do(t.Context(), "GET", "/v1/locks/", "")
			failed <- err
		}()
		go func() {
			_, err := c.create(t.Context(), "gripper")
			failed <- err
		}()
		require.NoError(t, before.Await(t.Context(), 1))
		require.NoError(t, after.Await(t.Context(), 1))
		s.Stop()
		require.Error(t, <-failed)
		require.Error(t, <-failed)
		require.Equal(t, []string{"arm", "gripper"}, names(s.Locks()))
	})
}

// What a store of the caller's own is asked for, it is asked for once each time.
func TestStore(t *testing.T) {
	var made, closed int
	t.Run("", func(t *testing.T) {
		s := relukkotest.NewServer(t, relukkotest.Store(func() store.Store {
			made++
			return &closingStore{memstore.New(), &closed}
		}))
		s.Start(true)
		require.Equal(t, []int{1, 0}, []int{made, closed})
		s.Start(false)
		require.Equal(t, []int{2, 1}, []int{made, closed})
	})
	require.Equal(t, []int{2, 2}, []int{made, closed})
}

type closingStore struct {
	store.Store
	closed *int
}

func (s *closingStore) Close() error {
	*s.closed++
	return nil
}
