package api

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/rawio"
)

const (
	// dialTime is longer than an attempt: a connection that comes late serves
	// the next one.
	dialTime = 30 * time.Second

	// stagger is how long a connection to one address has to itself before the
	// next address is tried beside it (RFC 8305).
	stagger = 250 * time.Millisecond
)

// dialer connects to a name's addresses in parallel, so that one which does not
// answer costs a quarter of a second and not all the time there is.
type dialer struct {
	lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	connect func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	best map[string]netip.Addr // by host: the address that worked last
}

func newDialer() *dialer {
	return &dialer{
		lookup:  net.DefaultResolver.LookupNetIP,
		connect: connect,
		best:    make(map[string]netip.Addr),
	}
}

// connect makes one connection.
func connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return rawio.New(conn), nil
}

// dial connects to address, a host and a port. The first connection that is
// made wins; the others are closed. The error is that of the first address.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.connect(ctx, network, address)
	}
	addrs, err := d.lookup(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	conn, addr, err := d.race(ctx, network, port, d.order(host, addrs))
	if err == nil {
		d.mu.Lock()
		d.best[host] = addr
		d.mu.Unlock()
	}
	return conn, err
}

// order returns addrs with the families taking turns, beginning with that of
// the first, but the address that worked last before all others.
func (d *dialer) order(host string, addrs []netip.Addr) []netip.Addr {
	var same, other []netip.Addr
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			same = append(same, a)
		} else {
			other = append(other, a)
		}
	}
	ordered := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(same), len(other)) {
		if i < len(same) {
			ordered = append(ordered, same[i])
		}
		if i < len(other) {
			ordered = append(ordered, other[i])
		}
	}
	d.mu.Lock()
	best := d.best[host]
	d.mu.Unlock()
	for i, a := range ordered {
		if a == best {
			copy(ordered[1:], ordered[:i])
			ordered[0] = best
		}
	}
	return ordered
}

// dialed is the outcome of one connection attempt.
type dialed struct {
	conn  net.Conn
	index int // of the address
	err   error
}

// race connects to addrs, each a stagger after the one before, or as soon as one
// has failed.
func (d *dialer) race(
	ctx context.Context, network, port string, addrs []netip.Addr,
) (net.Conn, netip.Addr, error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan dialed)
	started, pending := 0, 0
	defer func() {
		cancel()
		for range pending {
			if r := <-results; r.err == nil {
				r.conn.Close()
			}
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var first dialed // the failure with the lowest index
	for {
		select {
		case <-next.C:
			i, address := started, net.JoinHostPort(addrs[started].String(), port)
			started, pending = started+1, pending+1
			go func() {
				conn, err := d.connect(ctx, network, address)
				results <- dialed{conn, i, err}
			}()
			if started < len(addrs) {
				next.Reset(stagger)
			}
		case r := <-results:
			pending--
			switch {
			case r.err == nil:
				return r.conn, addrs[r.index], nil
			case first.err == nil || r.index < first.index:
				first = r
			}
			if started < len(addrs) {
				next.Reset(0)
			} else if pending == 0 {
				return nil, netip.Addr{}, first.err
			}
		}
	}
}
