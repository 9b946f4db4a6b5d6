package cli

import "net"

const (
	defaultAddr = "127.0.0.1:3000"
	defaultPort = "3000"
)

// bindAddr returns the address to listen on: that of the flag or of
// RELUKKO_BIND_ADDR. Both may omit the port.
func (p *program) bindAddr(flag string) string {
	addr := flag
	if addr == "" {
		addr = p.getenv(envBindAddr)
	}
	if addr == "" {
		return defaultAddr
	}
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	if n := len(addr); addr[0] == '[' && addr[n-1] == ']' {
		addr = addr[1 : n-1]
	}
	return net.JoinHostPort(addr, defaultPort)
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
