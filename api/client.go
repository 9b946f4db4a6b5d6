package api

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lifecycle"
)

// Client is a client of one Relukko backend. Create one with [New] or [FromEnv], use it from any
// number of goroutines, and [Client.Close] it at the end; the zero Client is not usable. However a
// Client is printed, it shows the backend's URL and no secret.
type Client struct {
	base      string
	transport func() *transport // a func, since what it returns holds the API key
	log       *slog.Logger
	trusted   bool
	maxWait   atomic.Int64

	under   *lifecycle.Group // what is under way
	watches *watches

	closing  atomic.Bool
	patience context.Context // of Shutdown
	giveUp   context.CancelFunc
	closed   chan struct{} // closed when Close is done
	closeErr error         // set before that
}

// New returns a client of the backend at baseURL, such as "http://host:3000" or
// "https://ci.example/relukko/". The URL has a scheme and a host, may have a path, and has neither
// query nor fragment. A user and password in it are sent as basic authentication and never shown.
// "unix:///run/relukko.sock" is a backend on a Unix socket: nothing follows the socket's path, which
// is not escaped, and no proxy is used.
//
// apiKey is sent as the header X-API-KEY; "" sends none, which is enough for [Client.Health]. The
// error says what is wrong with an argument. New sends no request.
//
// If the environment variable RELUKKO_TRUST_ME_IT_IS_LOCKED is set and not "", the client is in
// trust mode: it sends no request, and every call returns the same made-up lock. This is for work
// on something that was locked by other means. New then logs a warning.
func New(baseURL, apiKey string, opts ...Option) (*Client, error) {
	return newClient("base URL", baseURL, "API key", apiKey, newConfig(opts))
}

// newClient names the base URL and the key in errors as the caller knows them.
func newClient(urlName, baseURL, keyName, apiKey string, conf config) (*Client, error) {
	base, err := parseBase(baseURL)
	if err != nil {
		return nil, fmt.Errorf("relukko: %s %w", urlName, err)
	}
	if conf.askKey != nil {
		apiKey = ""
	} else if err := checkKey(apiKey); err != nil {
		return nil, fmt.Errorf("relukko: %s: %w", keyName, err)
	}
	if base.socket != "" && conf.client != nil {
		return nil, fmt.Errorf("relukko: %s %q: WithHTTPClient excludes unix://: use "+
			"http://localhost, and a Transport that dials the socket", urlName, base.shown())
	}
	t := newTransport(base, apiKey, conf)
	c := &Client{
		base:      base.shown(),
		transport: func() *transport { return t },
		log:       conf.log,
		trusted:   os.Getenv(envTrust) != "",
		under:     lifecycle.NewGroup(ErrClosed),
		closed:    make(chan struct{}),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.patience, c.giveUp = context.WithCancel(context.Background())
	c.watches = newWatches(c.transport, c.log)
	c.watches.none = conf.noWatch || c.trusted
	if c.trusted {
		warnTrust(conf.log, c.base)
	}
	return c, nil
}

// Watch returns immediately, with a Watch that lasts until [Watch.Close] is called, ctx ends or the
// client closes. All Watches of a client share one WebSocket, which is opened for the first and
// closed with the last. The client checks it with pings, and reopens it, with backoff, when it
// breaks. If the server responds that it has no WebSocket (an old backend, some proxies, HTTP/2),
// the client tries again about once a minute.
//
// Events are hints: they can be late or lost, and only a response of the backend decides. The error
// is [ErrNoWatch] with [WithoutWatch] and in trust mode, or [ErrClosed].
func (c *Client) Watch(ctx context.Context) (*Watch, error) {
	if err := c.under.Refusal(); err != nil {
		return nil, err
	}
	return c.watches.watch(ctx)
}

// MaxWait returns the longest time for which the backend lets a create queue: the longest useful
// argument of [Wait]. It comes from the last response to a create. It is 0 if the backend has no
// queue, and before the first create.
func (c *Client) MaxWait() time.Duration { return time.Duration(c.maxWait.Load()) }

// Trusted reports whether the client is in trust mode; see [New].
func (c *Client) Trusted() bool { return c.trusted }

// BaseURL returns the backend's URL, without user and password and without a slash at the end.
func (c *Client) BaseURL() string { return c.base }

// String returns a text with the backend's URL, and without a secret.
func (c *Client) String() string { return "relukko client of " + c.base }

// GoString returns the same as String, so that %#v shows no secret.
func (c *Client) GoString() string { return c.String() }

// LogValue returns the same as String.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }
