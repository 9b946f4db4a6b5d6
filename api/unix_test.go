//go:build unix

package api_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/unixsock"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// onSocket runs h on a Unix socket, until the test ends or stop is called.
func onSocket(t testing.TB, path string, h http.Handler) (stop func()) {
	t.Helper()
	l, err := unixsock.Listen(path, 0o600)
	require.NoError(t, err)
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s.Close
}

func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock") // shorter than t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "relukko.sock")
}

func newClient(t testing.TB, base string, opts ...api.Option) *api.Client {
	t.Helper()
	c, err := api.New(base, "k", opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// Requests, push and waiting work as over TCP. No proxy is used.
func TestOnAUnixSocket(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	path := socketPath(t)
	backend := server.New(memstore.New(), server.WithAPIKeys("k"))
	t.Cleanup(func() { backend.Shutdown(t.Context()) })
	var hosts atomic.Value
	onSocket(t, path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts.Store(r.Host)
		backend.ServeHTTP(w, r)
	}))
	c := newClient(t, "unix://"+path)
	require.Equal(t, "unix://"+path, c.BaseURL())
	require.NoError(t, c.Health(t.Context()))
	require.Equal(t, "localhost", hosts.Load())

	w, err := c.Watch(t.Context())
	require.NoError(t, err)
	defer w.Close()
	require.Equal(t, api.EventConnected, (<-w.Events()).Kind)
	lock, err := c.Create(t.Context(), "arm", "ada", api.FreshConn())
	require.NoError(t, err)
	require.Equal(t, "unix", lock.IP)
	require.Equal(t, lock.ID, (<-w.Events()).ID)

	waiting := make(chan struct{})
	locked := make(chan error, 1)
	arm := relukko.NewMutex(newClient(t, "unix://"+path), "arm",
		relukko.WithOnWait(func(relukko.Waiting) { close(waiting) }))
	go func() { locked <- arm.Do(t.Context(), func(context.Context) error { return nil }) }()
	<-waiting
	_, err = c.Delete(t.Context(), lock.ID)
	require.NoError(t, err)
	require.NoError(t, <-locked)
}

// The socket of a server that is gone is no answer; the next server on it is found.
func TestAUnixSocketWithoutAServer(t *testing.T) {
	path := socketPath(t)
	c := newClient(t, "unix://"+path)
	list := func() error {
		_, err := c.List(t.Context(), api.Once())
		return err
	}
	err := list()
	require.EqualError(t, err, "relukko: list locks: unix://"+path+
		": there is no such socket (is the server running?)")
	require.True(t, api.Transient(err))
	require.True(t, api.NoEffect(err))

	empty := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") })
	stop := onSocket(t, path, empty)
	require.NoError(t, list())
	suffix := newClient(t, "unix://"+path+"/v1")
	_, err = suffix.List(t.Context(), api.Once())
	require.ErrorContains(t, err, "nothing may follow the name of the socket")
	stop()
	require.ErrorContains(t, list(), "no such socket")
	retried := make(chan error, 1)
	go func() {
		_, err := c.List(t.Context())
		retried <- err
	}()
	onSocket(t, path, empty)
	require.NoError(t, <-retried)
}

// A redirect leads nowhere else.
func TestRedirectsOnAUnixSocket(t *testing.T) {
	path := socketPath(t)
	onSocket(t, path, http.RedirectHandler("http://localhost:1/", http.StatusTemporaryRedirect))
	_, err := newClient(t, "unix://"+path).Create(t.Context(), "arm", "")
	require.ErrorContains(t, err, "307 Temporary Redirect")
}

// A transport of the caller's dials by itself: under another URL.
func TestAGivenTransportOnAUnixSocket(t *testing.T) {
	given := &http.Client{Timeout: time.Second}
	_, err := api.New("unix:///run/relukko.sock", "k", api.WithHTTPClient(given))
	require.EqualError(t, err, `relukko: base URL "unix:///run/relukko.sock": WithHTTPClient `+
		"excludes unix://: use http://localhost, and a Transport that dials the socket")
}
