package browser

import (
	"context"
	"crypto/sha256"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// The people of the tests, and their keys.
const (
	user, password = "boss", "correct horse battery staple"

	adaKey    = "the key of ada"
	graceKey  = "the key of grace"
	readerKey = "the key of the reader"
	adminKey  = "the key of the admin"
)

func keys() []access.Key {
	return []access.Key{
		{Name: "ada", Role: access.User, Hash: sha256.Sum256([]byte(adaKey))},
		{Name: "grace", Role: access.User, Hash: sha256.Sum256([]byte(graceKey))},
		{Name: "reader", Role: access.Viewer, Hash: sha256.Sum256([]byte(readerKey))},
		{Name: "admin", Role: access.Admin, Hash: sha256.Sum256([]byte(adminKey))},
	}
}

// A site is a backend with the page, on a port of its own that survives restarts.
type site struct {
	t       *testing.T
	url     string
	address string
	store   store.Store
	options []server.Option
	network faultnet.Faults
	server  *server.Server
	stop    func()
}

// serve starts a backend on a store in memory, on which everybody of the tests may sign in.
func serve(t *testing.T, options ...server.Option) *site {
	return serveOn(t, memstore.New(), options...)
}

func serveOn(t *testing.T, st store.Store, options ...server.Option) *site {
	s := &site{t: t, store: st, address: "127.0.0.1:0"}
	s.options = append([]server.Option{
		server.WithKeys(keys()...), server.WithPage(server.Page{User: user, Password: password}),
	}, options...)
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *site) start() {
	listener, err := net.Listen("tcp", s.address)
	require.NoError(s.t, err)
	s.address = listener.Addr().String()
	s.url = "http://" + s.address
	s.server = server.New(s.store, s.options...)
	web := &http.Server{Handler: s.server}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = web.Serve(s.network.Listener(listener))
	}()
	srv := s.server
	s.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(s.t, srv.Shutdown(ctx))
		require.NoError(s.t, web.Close())
		<-served
	}
}

// client returns a client of the backend.
func (s *site) client(key string) *api.Client {
	s.t.Helper()
	c, err := api.New(s.url, key)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, c.Close()) })
	return c
}

// lock makes a lock that no program renews, as a plain client does.
func (s *site) lock(key, name, creator string, ttl time.Duration) api.Lock {
	s.t.Helper()
	c := s.client(key)
	lock, err := c.Create(s.t.Context(), name, creator)
	require.NoError(s.t, err)
	until := time.Now().Add(ttl)
	lock, err = c.Update(s.t.Context(), lock.ID, api.Update{ExpiresAt: &until})
	require.NoError(s.t, err)
	return lock
}

// hold acquires a lock as a program does, which renews it. It returns the guarded context, and a
// function that releases the lock; the end of the test does too.
func (s *site) hold(
	client *api.Client, name, creator string, options ...relukko.Option,
) (held context.Context, release func() error) {
	s.t.Helper()
	m := relukko.NewMutex(client, name, append(options, relukko.WithCreator(creator))...)
	held, err := m.Lock(s.t.Context())
	require.NoError(s.t, err)
	release = sync.OnceValue(func() error { return m.Unlock(held) })
	s.t.Cleanup(func() { _ = release() })
	return held, release
}

// signIn signs in with the user and the password.
func (b *tab) signIn() {
	b.t.Helper()
	b.visit("/sign-in")
	b.write("user", user)
	b.write("password", password)
	b.press("Sign in")
	b.live()
}

// signInWith signs in with a key.
func (b *tab) signInWith(key string) {
	b.t.Helper()
	b.visit("/sign-in")
	b.write("key", key)
	b.press("Sign in with the key")
	b.live()
}

// live waits until the page says that it is live.
func (b *tab) live() {
	b.t.Helper()
	b.sees(".live[data-status=live]", "Live")
}

// visitor signs a new tab in with a key; with the user and the password for "".
func (s *site) visitor(key string) *tab {
	s.t.Helper()
	b := open(s.t, s.url)
	if key == "" {
		b.signIn()
	} else {
		b.signInWith(key)
	}
	return b
}
