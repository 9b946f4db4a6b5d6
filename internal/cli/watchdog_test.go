//go:build unix

package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/systemd"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// pinged is a store whose Ping is the test's.
type pinged struct {
	inMemory
	mu   sync.Mutex
	ping func() error
}

func (p *pinged) Ping(context.Context) error {
	p.mu.Lock()
	ping := p.ping
	p.mu.Unlock()
	return ping()
}

func (p *pinged) set(ping func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ping = ping
}

// manager is a fake systemd.
type manager struct {
	t    testing.TB
	conn *net.UnixConn
}

// newManager returns a service manager whose watchdog ends what is silent for that long.
func newManager(t testing.TB, watchdog string) (*manager, systemd.Manager) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	found, err := systemd.FromEnv(func(name string) string {
		return map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": watchdog}[name]
	})
	require.NoError(t, err)
	return &manager{t, conn}, found
}

// next returns the next message, "" if there is none for that long.
func (m *manager) next(d time.Duration) string {
	m.t.Helper()
	require.NoError(m.t, m.conn.SetReadDeadline(time.Now().Add(d)))
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	if err != nil {
		require.ErrorContains(m.t, err, "timeout")
		return ""
	}
	return string(b[:n])
}

// await returns when a message contains the text.
func (m *manager) await(text string) {
	m.t.Helper()
	for message := ""; !strings.Contains(message, text); {
		message = m.next(patience)
		require.NotEmpty(m.t, message, "no %q", text)
	}
}

// The watchdog is served while the store returns, and not while it hangs.
func TestWatchdog(t *testing.T) {
	var network faultnet.Memory
	listener, err := network.Listen("backend")
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	st := &pinged{inMemory: inMemory{memstore.New()}, ping: func() error { return nil }}
	s := newService(server.New(st, server.WithAPIKeys("key")), st, nil, log)
	systemd, found := newManager(t, "40000")
	s.manager, s.status = found, "listening here"
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, listener) }()

	require.Equal(t, "READY=1\nSTATUS=listening here", systemd.next(patience))
	systemd.await("WATCHDOG=1\nSTATUS=listening here")
	systemd.await("WATCHDOG=1\nSTATUS=listening here")
	st.set(func() error { return errors.Join(store.ErrUnavailable, errors.New("no database")) })
	systemd.await("WATCHDOG=1\nSTATUS=the store is unavailable: ")

	hangs, mended := make(chan struct{}), make(chan struct{})
	st.set(func() error {
		close(hangs)
		<-mended
		return nil
	})
	select {
	case <-hangs:
	case <-time.After(patience):
		t.Fatal("the store is not asked")
	}
	require.Empty(t, systemd.next(200*time.Millisecond), "ten times as long as between messages")
	st.set(func() error { return nil })
	close(mended)
	systemd.await("WATCHDOG=1\nSTATUS=listening here")

	end()
	systemd.await("STOPPING=1")
	require.NoError(t, <-ended)
}

func TestStateDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"of the service": {[]string{"STATE_DIRECTORY=/var/lib/relukko", "HOME=/root"},
			"/var/lib/relukko"},
		"the first of two":   {[]string{"STATE_DIRECTORY=/var/lib/a:/var/lib/b"}, "/var/lib/a"},
		"no whole path":      {[]string{"STATE_DIRECTORY=a", "HOME=/u"}, "/u/.local/state/relukko"},
		"the user's":         {[]string{"HOME=/u"}, "/u/.local/state/relukko"},
		"nothing to keep it": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &program{Invocation: Invocation{Env: c.env}}
			spec, err := p.storeSpec("")
			if c.want == "" {
				require.ErrorContains(t, err, "neither HOME nor STATE_DIRECTORY")
				return
			}
			require.NoError(t, err)
			require.Equal(t, "bolt:"+c.want+"/locks.db", spec)
			require.Equal(t, c.want+"/locks.db.key", p.keyPath(spec))
			require.Equal(t, c.want+"/server.key", p.keyPath("memory"))
		})
	}
}
