package relukko_test

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// keyed is a backend whose keys change while clients use it.
type keyed struct {
	t       *testing.T
	backend *server.Server
	web     *httptest.Server
	key     atomic.Value // what the clients' function returns
	asked   atomic.Int32 // calls of it
	beats   atomic.Int32 // renewals by plain requests
}

func newKeyed(t *testing.T) *keyed {
	k := &keyed{t: t, backend: server.New(memstore.New(), server.WithKeys(
		keyOf("1", "ada", access.User), keyOf("3", "bob", access.User)))}
	k.key.Store("1")
	k.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/keep_alive") {
			k.beats.Add(1)
		}
		k.backend.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		k.backend.Shutdown(context.Background())
		k.web.Close()
	})
	return k
}

func keyOf(secret, name string, role access.Role, patterns ...string) access.Key {
	return access.Key{
		Name: name, Role: role, Patterns: patterns, Hash: sha256.Sum256([]byte(secret)),
	}
}

// client returns a client with a fixed key, or, with an empty one, one that asks for it.
func (k *keyed) client(key string) *api.Client {
	k.t.Helper()
	var opts []api.Option
	if key == "" {
		opts = append(opts, api.WithAPIKeyFunc(func() (string, error) {
			k.asked.Add(1)
			return k.key.Load().(string), nil
		}))
	}
	c, err := api.New(k.web.URL, key, opts...)
	require.NoError(k.t, err)
	k.t.Cleanup(func() { c.Close() })
	return c
}

// waits has a Lock of ada's that waits for bob's, and returns bob's Unlock and the Lock's end.
func (k *keyed) waits(key string) (release func(), locked chan error) {
	k.t.Helper()
	other := relukko.NewMutex(k.client("3"), "desk")
	held := lock(k.t, other)
	waiting := make(chan struct{}, 100)
	m := relukko.NewMutex(k.client(key), "desk", relukko.WithTTL(2*time.Second),
		relukko.WithOnWait(func(relukko.Waiting) { waiting <- struct{}{} }))
	locked = make(chan error, 1)
	go func() {
		mine, err := m.Lock(k.t.Context())
		if err == nil {
			err = m.Unlock(mine)
		}
		locked <- err
	}()
	<-waiting
	return func() { require.NoError(k.t, other.Unlock(held)) }, locked
}

// A Lock that waits with a key that goes, or may not lock the name any more, ends, and says why.
func TestAWaitingLockWhoseKeyGoes(t *testing.T) {
	t.Parallel()
	bob := keyOf("3", "bob", access.User)
	for name, row := range map[string]struct {
		keys []access.Key
		says string
	}{
		"gone": {[]access.Key{bob}, "X-API-KEY"},
		"a viewer": {[]access.Key{bob, keyOf("1", "ada", access.Viewer)},
			`lock "desk": the key "ada" has the role viewer, which may only read`},
		"another pattern": {[]access.Key{bob, keyOf("1", "ada", access.User, "bench-*")},
			`the key "ada" may create and change only locks whose names match bench-*`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeyed(t)
			release, locked := k.waits("1")
			k.backend.SetKeys(row.keys...)
			err := <-locked
			require.ErrorIs(t, err, api.ErrRefused)
			require.ErrorContains(t, err, row.says)
			release()
			locks, err := k.client("3").List(t.Context())
			require.NoError(t, err)
			require.Empty(t, locks)
		})
	}
}

// A Lock that waits goes on where its key may do more, or its client gets another one.
func TestAWaitingLockWhoseKeyChanges(t *testing.T) {
	t.Parallel()
	bob := keyOf("3", "bob", access.User)
	for name, keys := range map[string][]access.Key{
		"an admin":    {bob, keyOf("1", "ada", access.Admin)},
		"another key": {bob, keyOf("2", "ada", access.User)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeyed(t)
			release, locked := k.waits("")
			if name == "another key" {
				k.key.Store("2")
			}
			k.backend.SetKeys(keys...)
			release()
			require.NoError(t, <-locked)
		})
	}
}

// A lock stays held while its key is replaced.
func TestAHeldLockWhoseKeyIsReplaced(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	m := relukko.NewMutex(k.client(""), "arm", relukko.WithTTL(2*time.Second))
	held := lock(t, m)
	k.backend.SetKeys(keyOf("1", "ada", access.User), keyOf("2", "ada", access.User))
	k.key.Store("2")
	k.backend.SetKeys(keyOf("2", "ada", access.User))
	select {
	case <-held.Done():
		require.NoError(t, context.Cause(held))
	case <-time.After(3 * time.Second): // longer than the lease
	}
	require.NoError(t, m.Unlock(held))
	require.EqualValues(t, 2, k.asked.Load())
}

// A refusal of a key ends no lease while the client may get another key, also where so many wrong
// keys come from its address that they get 429.
func TestAHeldLockWhoseKeyIsReplacedLate(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]int{"403": 0, "429": 25} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKeyed(t)
			m := relukko.NewMutex(k.client(""), "arm", relukko.WithTTL(6*time.Second))
			held := lock(t, m)
			k.backend.SetKeys(keyOf("2", "ada", access.User))
			for range wrong {
				_, err := k.client("wrong").List(t.Context(), api.Once())
				require.Error(t, err)
			}
			require.Eventually(t, func() bool { return k.beats.Load() >= 2 }, 5*time.Second,
				time.Millisecond, "renewals are refused, and tried again")
			require.NoError(t, held.Err())
			k.key.Store("2")
			select {
			case <-held.Done():
				require.NoError(t, context.Cause(held))
			case <-time.After(7 * time.Second): // longer than the lease
			}
			require.NoError(t, m.Unlock(held))
		})
	}
}

// Where no other key comes, the lock is lost before its lease ends, and the error says why.
func TestAHeldLockWhoseKeyGoes(t *testing.T) {
	t.Parallel()
	k := newKeyed(t)
	m := relukko.NewMutex(k.client(""), "arm", relukko.WithTTL(2*time.Second))
	held := lock(t, m)
	k.backend.SetKeys(keyOf("3", "bob", access.User))
	<-held.Done()
	var lost *relukko.LostError
	require.ErrorAs(t, context.Cause(held), &lost)
	require.ErrorContains(t, lost, "X-API-KEY")
	require.Error(t, m.Unlock(held))
}
