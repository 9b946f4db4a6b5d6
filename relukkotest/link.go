package relukkotest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
)

const closeTime = 2 * time.Minute

// Client returns a new client of the backend over this link. When the test ends, all faults end and
// the client is closed. The test fails if the client still has work under way 2 min later, for
// example because the backend is stopped. (After a request without a response, a client of the
// original backend looks for what that has done for 75 s.)
func (l *Link) Client(opts ...api.Option) *api.Client {
	t := l.server.t
	t.Helper()
	if l.server.memory != nil {
		opts = append([]api.Option{api.WithHTTPClient(l.HTTPClient())}, opts...)
	}
	c, err := api.New(l.URL, l.server.APIKey, opts...)
	if err != nil {
		t.Fatalf("relukkotest: %v", err)
	}
	t.Cleanup(func() {
		select {
		case <-lifecycle.Of(c).Open().Done(): // the test has closed it, and knows how that went
			return
		default:
		}
		l.server.Heal()
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		if err := c.Shutdown(ctx); err != nil {
			t.Errorf("relukkotest: closing a client: %v", err)
		}
	})
	return c
}

// HTTPClient returns a client that reaches the backend over this link. It shares no connections
// with others, and sends no API key.
func (l *Link) HTTPClient() *http.Client {
	transport := &http.Transport{
		DialContext:         l.dial,
		MaxIdleConnsPerHost: 1000,
	}
	l.server.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (l *Link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if l.server.memory == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return l.faults.Dial(ctx, func(ctx context.Context) (net.Conn, error) {
		return l.server.memory.DialContext(ctx, network, address)
	})
}

// open listens: the first time on an address that is free, then always on that.
func (l *Link) open() (net.Listener, error) {
	fresh := l.address == ""
	for tries := 0; ; tries++ {
		address := l.address
		if fresh {
			address = l.server.newAddress()
		}
		listener, err := l.server.listen(address)
		if err == nil {
			if fresh {
				l.address, l.URL = address, "http://"+address
			}
			return l.faults.Listener(listener), nil
		}
		if tries == 100 {
			return nil, err
		}
		time.Sleep(10 * time.Millisecond) // another program has the port, perhaps not for long
	}
}

func (s *Server) newAddress() string {
	if s.memory != nil {
		s.addresses++
		return fmt.Sprintf("relukko-%d.test:80", s.addresses-1)
	}
	// Below the ports that systems assign, so that no other program gets it while
	// the backend is stopped.
	return fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(15000))
}

func (s *Server) listen(address string) (net.Listener, error) {
	if s.memory != nil {
		return s.memory.Listen(address)
	}
	return net.Listen("tcp", address)
}
