package httpapi

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClientAddress(t *testing.T) {
	c := Config{TrustedProxies: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48"),
		netip.MustParsePrefix("127.0.0.0/8"),
	}}
	for name, test := range map[string]struct {
		peer   string
		header []string // names and values
		want   string
	}{
		"no proxy": {"192.0.2.7:1234", nil, "192.0.2.7"},
		"an untrusted proxy": {"192.0.2.7:1234", []string{"X-Forwarded-For", "198.51.100.1"},
			"192.0.2.7"},
		"a trusted proxy": {"10.1.2.3:1234", []string{"X-Forwarded-For", "198.51.100.1"},
			"198.51.100.1"},
		"one that says nothing": {"10.1.2.3:1234", nil, "10.1.2.3"},
		"a client that lies": {"10.1.2.3:1234",
			[]string{"X-Forwarded-For", "203.0.113.9, 198.51.100.1"}, "198.51.100.1"},
		"two proxies": {"10.1.2.3:1234",
			[]string{"X-Forwarded-For", "203.0.113.9, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		"two headers": {"10.1.2.3:1234", []string{
			"X-Forwarded-For", "203.0.113.9", "X-Forwarded-For", "198.51.100.1,10.9.9.9"},
			"198.51.100.1"},
		"only proxies": {"10.1.2.3:1234", []string{"X-Forwarded-For", "10.7.7.7, 10.8.8.8"},
			"10.7.7.7"},
		"with a port": {"10.1.2.3:1234", []string{"X-Forwarded-For", "198.51.100.1:4711"},
			"198.51.100.1"},
		"IPv6": {"10.1.2.3:1234", []string{"X-Forwarded-For", "2001:db8::7"},
			"2001:db8::7"},
		"IPv6, a port": {"10.1.2.3:1234", []string{"X-Forwarded-For", "[2001:db8::7]:80"},
			"2001:db8::7"},
		"an IPv6 proxy": {"[2001:db8:1::9]:80", []string{"X-Forwarded-For", "198.51.100.1"},
			"198.51.100.1"},
		"a mapped proxy": {"[::ffff:10.1.2.3]:80",
			[]string{"X-Forwarded-For", "::ffff:198.51.100.1"}, "198.51.100.1"},
		"no address": {"10.1.2.3:1234", []string{"X-Forwarded-For", "198.51.100.1, unknown"},
			"10.1.2.3"},
		"empty":               {"10.1.2.3:1234", []string{"X-Forwarded-For", ""}, "10.1.2.3"},
		"a Unix socket":       {"@", nil, "unix"},
		"a proxy on a socket": {"@", []string{"X-Forwarded-For", "198.51.100.1"}, "198.51.100.1"},
		"Forwarded": {"10.1.2.3:1234", []string{"Forwarded", "for=198.51.100.1"},
			"198.51.100.1"},
		"Forwarded, more": {"10.1.2.3:1234", []string{"Forwarded", `for=203.0.113.9, ` +
			`By="x;for=9.9.9.9,";FOR="[2001:db8::7]:4711" ;proto=https, for=10.9.9.9`},
			"2001:db8::7"},
		"Forwarded, hidden": {"10.1.2.3:1234",
			[]string{"Forwarded", "for=203.0.113.9, for=_secret"}, "10.1.2.3"},
		"Forwarded, without": {"10.1.2.3:1234",
			[]string{"Forwarded", "for=203.0.113.9, proto=http"}, "10.1.2.3"},
		"both": {"10.1.2.3:1234", []string{
			"Forwarded", "for=203.0.113.9", "X-Forwarded-For", "198.51.100.1"}, "198.51.100.1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/v1/locks", nil)
			r.RemoteAddr = test.peer
			if test.peer == "@" {
				r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey,
					&net.UnixAddr{Net: "unix"}))
			}
			for i := 0; i < len(test.header); i += 2 {
				r.Header.Add(test.header[i], test.header[i+1])
			}
			require.Equal(t, test.want, c.clientAddress(r))
		})
	}
}

func FuzzClientAddress(f *testing.F) {
	c := Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	f.Add("10.1.2.3:1", "1.2.3.4, 10.0.0.1", `for="[::1]:9"; by=x`)
	f.Fuzz(func(t *testing.T, peer, list, forwarded string) {
		r := httptest.NewRequest("POST", "/v1/locks", nil)
		r.RemoteAddr = peer
		r.Header["Forwarded"] = []string{forwarded}
		if list != "" {
			r.Header["X-Forwarded-For"] = []string{list}
		}
		host := c.clientAddress(r)
		if _, err := netip.ParseAddr(host); err != nil && (&Config{}).clientAddress(r) != host {
			t.Errorf("%q is not an address", host)
		}
	})
}
