package cli

import (
	"io/fs"
	"net"
	"strconv"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/settings"
	"gitlab.com/relukko/relukko-go/internal/unixsock"
)

// defaultAddr returns the address to listen on where none is given.
func defaultAddr() string { return "127.0.0.1:" + settings.DefaultPort() }

// listen listens on the address that the flag or RELUKKO_BIND_ADDR names: on a Unix
// socket, with that mode, there is no TLS.
func (p *program) listen(flag, mode string, tls bool) (net.Listener, error) {
	network, addr, err := p.bindAddr(flag)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		if tls {
			return nil, usage("--tls-cert: there is no TLS on a Unix socket")
		}
		return listenOnSocket(addr, mode)
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, failed("cannot listen: %v", err)
	}
	return l, nil
}

// listenOnSocket listens on the Unix socket path.
func listenOnSocket(path, mode string) (net.Listener, error) {
	bits, err := strconv.ParseUint(mode, 8, 32)
	if err != nil || bits > 0o777 {
		return nil, usage("--socket-mode: %q is not a mode like 0660", mode)
	}
	l, err := unixsock.Listen(path, fs.FileMode(bits))
	if err != nil {
		return nil, failed("cannot listen: %v", err)
	}
	return l, nil
}

// bindAddr returns the address to listen on: a path where the network is unix. The
// flag and the variable may omit the port. An IPv4 address, 0.0.0.0 too, is on IPv4
// only.
func (p *program) bindAddr(flag string) (network, addr string, err error) {
	addr, from := flag, "--addr"
	if addr == "" {
		addr, from = p.getenv(envBindAddr), envBindAddr
	}
	path, isSocket, err := unixsock.Parse(addr)
	switch {
	case isSocket && err != nil:
		return "", "", usage("%s: %q: %v", from, addr, err)
	case isSocket:
		return "unix", path, nil
	case addr == "":
		addr = defaultAddr()
	case strings.Trim(addr, "0123456789") == "":
		return "", "", usage("%s: %q is only a port: write 127.0.0.1:%[2]s, "+
			"or :%[2]s for all addresses of this machine", from, addr)
	case strings.HasPrefix(addr, "/"):
		return "", "", usage("%s: %q is a path: for a Unix socket write unix:%[2]s", from, addr)
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

// urlOf returns the base URL of a server that listens on addr.
func urlOf(addr net.Addr, tls bool) string {
	switch {
	case addr.Network() == "unix":
		return unixsock.URL(addr.String())
	case tls:
		return "https://" + addr.String()
	}
	return "http://" + addr.String()
}

// isLocal reports whether only processes of this machine can connect to addr.
func isLocal(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// reachesBrowsers reports whether a browser can connect to addr: none can to a Unix socket.
func reachesBrowsers(addr net.Addr) bool { return addr.Network() != "unix" }
