package cli

import (
	"net"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/settings"
)

// defaultAddr returns the address to listen on where none is given.
func defaultAddr() string { return "127.0.0.1:" + settings.DefaultPort() }

// listen listens on the address that the flag or RELUKKO_BIND_ADDR names.
func (p *program) listen(flag string) (net.Listener, error) {
	network, addr, err := p.bindAddr(flag)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, failed("cannot listen: %v", err)
	}
	return l, nil
}

// bindAddr returns the address to listen on. The flag and the variable may omit
// the port. An IPv4 address, 0.0.0.0 too, is on IPv4 only.
func (p *program) bindAddr(flag string) (network, addr string, err error) {
	addr, from := flag, "--addr"
	if addr == "" {
		addr, from = p.getenv(envBindAddr), envBindAddr
	}
	switch {
	case addr == "":
		addr = defaultAddr()
	case strings.Trim(addr, "0123456789") == "":
		return "", "", usage("%s: %q is only a port: write 127.0.0.1:%[2]s, "+
			"or :%[2]s for all addresses of this machine", from, addr)
	case strings.Contains(addr, "/"):
		return "", "", usage("%s: %q is not an address like 127.0.0.1:3000", from, addr)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil { // without a port
		host, port = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]"), settings.DefaultPort()
	}
	network = "tcp"
	if net.ParseIP(host).To4() != nil {
		network = "tcp4" // Go would listen on [::] for 0.0.0.0
	}
	return network, net.JoinHostPort(host, port), nil
}

// isDefault reports whether clients that are told of no URL find the server at addr.
func isDefault(addr net.Addr) bool {
	_, port, _ := net.SplitHostPort(addr.String())
	return isLoopback(addr) && port == settings.DefaultPort()
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
