//go:build linux

package soak

import (
	"io"
	"net"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

// way is a proxy that can go dark.
type way struct {
	faultnet.Faults
	listener net.Listener
	target   func() (network, address string) // address empty: nobody is there
	passing  sync.WaitGroup
}

// openWay opens a way from address to what target says at each connection.
func openWay(network, address string, target func() (string, string)) (*way, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	w := &way{listener: l, target: target}
	w.passing.Go(func() {
		from := w.Listener(l)
		for {
			c, err := from.Accept()
			if err != nil {
				return
			}
			w.passing.Go(func() { w.pass(c) })
		}
	})
	return w, nil
}

func (w *way) addr() string { return w.listener.Addr().String() }

// close cuts all connections and ends the way.
func (w *way) close() {
	w.listener.Close()
	w.Close()
	w.passing.Wait()
}

// pass has the ends of a connection talk until one of them closes it.
func (w *way) pass(c net.Conn) {
	network, address := w.target()
	if address == "" {
		_ = faultnet.Cut(c)
		c.Close()
		return
	}
	onward, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		_ = faultnet.Cut(c)
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
