package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// network is addresses that answer after a while, fail, or are dark.
type network struct {
	names map[string][]netip.Addr
	after map[string]time.Duration // dark where there is none
	fails map[string]bool
	deaf  bool // a connection is made though nobody waits for it any more

	mu    sync.Mutex
	tried []string
	open  map[string]int
}

func (n *network) lookup(_ context.Context, _, host string) ([]netip.Addr, error) {
	if addrs, ok := n.names[host]; ok {
		return append([]netip.Addr(nil), addrs...), nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (n *network) connect(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.tried = append(n.tried, host)
	n.mu.Unlock()
	after, ok := n.after[host]
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if n.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if n.fails[host] {
		return nil, errors.New(host + " refuses")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open[host]++
	return &counted{network: n, host: host}, nil
}

func (n *network) taken() (tried []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	tried, n.tried = n.tried, nil
	return tried
}

type counted struct {
	net.Conn
	network *network
	host    string
}

func (c *counted) Close() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	c.network.open[c.host]--
	return nil
}

func TestDialing(t *testing.T) {
	const ms = time.Millisecond
	four := []string{"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"}
	for _, c := range []struct {
		name  string
		addrs []string
		after map[string]time.Duration
		fails []string
		tried []string
		took  time.Duration
		err   string
	}{
		{"one", four[:1], map[string]time.Duration{"10.0.0.1": 5 * ms}, nil, four[:1], 5 * ms, ""},
		{"the families take turns", four, map[string]time.Duration{"fd00::2": 5 * ms}, nil,
			[]string{"10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"}, 755 * ms, ""},
		{"the first is dark", four[:2], map[string]time.Duration{"10.0.0.2": 5 * ms}, nil, four[:2],
			255 * ms, ""},
		{"the first is slow", four[:2], map[string]time.Duration{"10.0.0.1": 300 * ms,
			"10.0.0.2": 100 * ms}, nil,
			four[:2], 300 * ms, ""},
		{"the second is faster", four[:2], map[string]time.Duration{"10.0.0.1": 400 * ms,
			"10.0.0.2": 100 * ms}, nil,
			four[:2], 350 * ms, ""},
		{"both get through, deaf", four[:2], map[string]time.Duration{"10.0.0.1": 400 * ms,
			"10.0.0.2": 100 * ms}, nil,
			four[:2], 400 * ms, ""},
		{"the first refuses", four[:2], map[string]time.Duration{"10.0.0.1": 5 * ms,
			"10.0.0.2": 5 * ms},
			four[:1], four[:2], 10 * ms, ""},
		{"all refuse", four[:2], map[string]time.Duration{"10.0.0.1": 5 * ms, "10.0.0.2": 5 * ms},
			four[:2], four[:2], 10 * ms, "10.0.0.1 refuses"},
		{"all dark", four[:2], nil, nil, four[:2], dialTime, "deadline exceeded"},
		{"no address", nil, nil, nil, nil, 0, "dial tcp: lookup backend: no addresses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				n := &network{names: map[string][]netip.Addr{"backend": {}}, after: c.after,
					fails: map[string]bool{}, open: map[string]int{},
					deaf: strings.HasSuffix(c.name, "deaf")}
				for _, a := range c.addrs {
					n.names["backend"] = append(n.names["backend"], netip.MustParseAddr(a))
				}
				for _, a := range c.fails {
					n.fails[a] = true
				}
				d := &dialer{lookup: n.lookup, connect: n.connect, best: map[string]netip.Addr{}}
				begin := time.Now()
				conn, err := d.dial(t.Context(), "tcp", "backend:3000")
				require.Equal(t, c.took, time.Since(begin))
				require.Equal(t, c.tried, n.taken())
				if c.err != "" {
					require.ErrorContains(t, err, c.err)
					return
				}
				require.NoError(t, err)
				require.NoError(t, conn.Close())
				for host, open := range n.open {
					require.Zero(t, open, host)
				}
			})
		})
	}
}

// The address that worked last is tried first, for each host.
func TestDialingRemembersWhatWorked(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		n := &network{
			names: map[string][]netip.Addr{"x": {a, b}, "y": {a, b}},
			after: map[string]time.Duration{"10.0.0.2": 0}, open: map[string]int{},
		}
		d := &dialer{lookup: n.lookup, connect: n.connect, best: map[string]netip.Addr{}}
		dial := func(address string) {
			_, err := d.dial(t.Context(), "tcp", address)
			require.NoError(t, err)
		}
		dial("x:1")
		require.Equal(t, []string{"10.0.0.1", "10.0.0.2"}, n.taken())
		dial("x:1")
		require.Equal(t, []string{"10.0.0.2"}, n.taken())
		dial("y:1")
		require.Equal(t, []string{"10.0.0.1", "10.0.0.2"}, n.taken())
		dial("10.0.0.2:1")
		require.Equal(t, []string{"10.0.0.2"}, n.taken(), "nothing to look up")

		// Dead, it costs a stagger once.
		n.after = map[string]time.Duration{"10.0.0.1": 0}
		begin := time.Now()
		dial("x:1")
		require.Equal(t, stagger, time.Since(begin))
		dial("x:1")
		require.Equal(t, stagger, time.Since(begin))
	})
}

// A name of which one address is dark costs a call no more than the stagger.
func TestANameWithADarkAddress(t *testing.T) {
	url := serve(t, answer(200, testLock))
	c := client(t, url)
	d := newDialer()
	d.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("10.255.255.1"), netip.MustParseAddr("127.0.0.1")},
			nil
	}
	connect := d.connect
	d.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(address); host != "127.0.0.1" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return connect(ctx, network, address)
	}
	tr := c.transport()
	tr.client.Transport.(*http.Transport).DialContext = d.dial
	tr.locks.Host = "backend:" + tr.locks.Port()
	begin := time.Now()
	_, err := c.Get(t.Context(), testID)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(begin), stagger)
	require.Less(t, time.Since(begin), attemptTime/2)
}
