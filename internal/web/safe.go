package web

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// setHeaders sets what keeps other sites out of the page, and the page's own content from being
// taken for a script. The referrer policy is not no-referrer: with that a browser sends the origin
// null with a form.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; object-src 'none'; base-uri 'none'; "+
		"form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// isOwnHost reports whether the request may be for this server. Over the loopback interface only
// the machine's own names count, so that a name of another site that points at this machine gains
// nothing. A trusted proxy passes on names of its own.
func (p *Page) isOwnHost(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return !ok || !local.IP.IsLoopback() || p.Proxied(r) || isOwnName(hostOf(r.Host))
}

// hostOf returns the host of a host and a port, in lower case.
func hostOf(hostPort string) string {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.Trim(hostPort, "[]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

func isOwnName(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	name, err := os.Hostname()
	return err == nil && host == strings.ToLower(name)
}

// overTLS reports whether the browser's connection is encrypted.
func (p *Page) overTLS(r *http.Request) bool {
	return r.TLS != nil || p.Proxied(r) && r.Header.Get("X-Forwarded-Proto") == "https"
}

// port returns the port that the browser connects to.
func (p *Page) port(r *http.Request) string {
	_, port, err := net.SplitHostPort(r.Host)
	switch {
	case err == nil && strings.Trim(port, "0123456789") == "":
		return port
	case p.overTLS(r):
		return "443"
	}
	return "80"
}
