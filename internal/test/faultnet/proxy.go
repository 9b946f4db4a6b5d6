package faultnet

import (
	"io"
	"net"
	"sync"
	"time"
)

// Proxy passes connections on to a server, with faults.
type Proxy struct {
	Faults
	listener net.Listener
	target   func() (network, address string)
	passing  sync.WaitGroup
}

// OpenProxy opens a proxy that listens on address. Target says, for each connection, where the
// server listens; an empty address means that there is none.
func OpenProxy(network, address string, target func() (network, address string)) (*Proxy, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target}
	p.passing.Go(func() {
		from := p.Listener(l)
		for {
			c, err := from.Accept()
			if err != nil {
				return
			}
			p.passing.Go(func() { p.pass(c) })
		}
	})
	return p, nil
}

// Addr returns the address on which the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts all connections and ends the proxy.
func (p *Proxy) Close() {
	p.listener.Close()
	p.Faults.Close()
	p.passing.Wait()
}

// pass has the ends of a connection talk until one of them closes it.
func (p *Proxy) pass(c net.Conn) {
	network, address := p.target()
	if address == "" {
		_ = Cut(c)
		c.Close()
		return
	}
	onward, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		_ = Cut(c)
		c.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(onward, c)
		onward.Close()
	})
	io.Copy(c, onward)
	c.Close()
	onward.Close()
	wg.Wait()
}
