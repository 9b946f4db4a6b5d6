package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/guard"
)

// onSocket stands for the address of a client that connects to a Unix socket, which has none.
const onSocket = "unix"

// origin returns where a request comes from.
func (c *Config) origin(r *http.Request) guard.Origin {
	return guard.Origin{IP: c.clientAddress(r), Agent: r.UserAgent()}
}

// clientAddress returns the client's address without the port. Where the peer is a trusted proxy,
// that is the nearest hop that is not, by X-Forwarded-For or, without that, by Forwarded (RFC
// 7239).
func (c *Config) clientAddress(r *http.Request) string {
	client := peer(r)
	if len(c.TrustedProxies) == 0 {
		return client
	}
	hop := hopOf(client)
	if !c.trusts(hop) {
		return client
	}
	hops := forwardedFor(r.Header)
	for i := len(hops) - 1; i >= 0 && c.trusts(hop); i-- {
		next, ok := parseHop(hops[i])
		if !ok {
			break // hidden or unknown
		}
		hop, client = next, next.Unmap().WithZone("").String()
	}
	return client
}

// proxied reports whether the request comes from a trusted proxy.
func (c *Config) proxied(r *http.Request) bool { return c.trusts(hopOf(peer(r))) }

// hopOf returns the address of a peer. One on a Unix socket is of this machine.
func hopOf(peer string) netip.Addr {
	if peer == onSocket {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	hop, _ := netip.ParseAddr(peer)
	return hop
}

// peer returns the address of the connection's other end.
func peer(r *http.Request) string {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if ok && local.Network() == "unix" {
		return onSocket
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (c *Config) trusts(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, proxy := range c.TrustedProxies {
		if proxy.Contains(addr) {
			return true
		}
	}
	return false
}

// forwardedFor returns the hops of a request, the client first.
func forwardedFor(h http.Header) (hops []string) {
	if values := h.Values("X-Forwarded-For"); len(values) > 0 {
		return strings.Split(strings.Join(values, ","), ",")
	}
	for element := range splitQuoted(strings.Join(h.Values("Forwarded"), ","), ',') {
		hop := "" // an element without one hides it
		for pair := range splitQuoted(element, ';') {
			name, value, _ := strings.Cut(pair, "=")
			if strings.EqualFold(strings.TrimSpace(name), "for") {
				hop = strings.Trim(value, " \t\"")
			}
		}
		hops = append(hops, hop)
	}
	return hops
}

// splitQuoted yields the parts of s between separators outside of quoted strings.
func splitQuoted(s string, separator byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		quoted, from := false, 0
		for i := 0; i < len(s); i++ {
			switch {
			case quoted && s[i] == '\\':
				i++
			case s[i] == '"':
				quoted = !quoted
			case !quoted && s[i] == separator:
				if !yield(s[from:i]) {
					return
				}
				from = i + 1
			}
		}
		yield(s[from:])
	}
}

// parseHop parses an address with or without a port; an IPv6 address may be in brackets.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return addr, true
	}
	at, err := netip.ParseAddrPort(s)
	return at.Addr(), err == nil
}
