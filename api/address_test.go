package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// A name has two addresses, and the first one goes dark: the lock is held.
func TestShortOutageLosesNothingWhereOneOfTwoAddressesGoesDark(t *testing.T) {
	for _, ttl := range []time.Duration{3 * time.Second, 10 * time.Second, 30 * time.Second} {
		t.Run(fmt.Sprint(ttl), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := relukkotest.NewServer(t, relukkotest.InMemory())
				second := s.NewLink()
				dial := func(l *relukkotest.Link) func(context.Context, string) (net.Conn, error) {
					transport := l.HTTPClient().Transport.(*http.Transport)
					u, err := url.Parse(l.URL)
					require.NoError(t, err)
					return func(ctx context.Context, network string) (net.Conn, error) {
						return transport.DialContext(ctx, network, u.Host)
					}
				}
				one, two := dial(&s.Link), dial(second)
				lookup := func(context.Context, string, string) ([]netip.Addr, error) {
					return []netip.Addr{
						netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"),
					}, nil
				}
				connect := func(ctx context.Context, network, address string) (net.Conn, error) {
					if strings.HasPrefix(address, "192.0.2.1:") {
						return one(ctx, network)
					}
					return two(ctx, network)
				}
				client := &http.Client{Transport: &http.Transport{
					DialContext: api.DialContext(lookup, connect),
				}}
				c, err := api.New("http://relukko.example:3000", s.APIKey, api.WithHTTPClient(client))
				require.NoError(t, err)
				m := relukko.NewMutex(c, "arm", relukko.WithTTL(ttl))
				held, err := m.Lock(t.Context())
				require.NoError(t, err)
				time.Sleep(2 * ttl)
				s.GoDark() // the first address only
				time.Sleep(10 * ttl)
				require.NoError(t, held.Err(), "%v", context.Cause(held))
				require.NoError(t, m.Unlock(held))
				s.ComeBack()
				require.NoError(t, c.Shutdown(t.Context()))
				client.CloseIdleConnections()
			})
		})
	}
}
