package api

import (
	"context"
	"net"
	"net/netip"
)

// DialContext returns the dial function of a client's own transport, with
// another resolver and another way to connect.
func DialContext(
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error),
	connect func(ctx context.Context, network, address string) (net.Conn, error),
) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := newDialer()
	d.lookup, d.connect = lookup, connect
	return d.dial
}
