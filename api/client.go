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

// Client speaks to one Relukko backend. Make one with [New] or [FromEnv], use
// it from any number of goroutines, and [Client.Close] it in the end. However
// it is printed, it shows the backend's URL and no secret.
type Client struct {
	base      string
	transport func() *transport // a func, since what it returns holds the API key
	log       *slog.Logger
	trusted   bool
	maxWait   atomic.Int64
	callOff   atomic.Bool

	under   *lifecycle.Group // what is under way
	watches *watches

	closing  atomic.Bool
	patience context.Context // of Shutdown
	giveUp   context.CancelFunc
	closed   chan struct{} // closed when Close is done
	closeErr error         // set before that
}

// New returns a client of the backend at baseURL, "http://host:3000" or
// "https://ci.example/relukko/": with scheme and host, perhaps with a path
// before the API's own, without query and fragment. User and password in it
// are sent as basic authentication and shown nowhere. apiKey is sent as the
// header X-API-KEY; an empty one is not sent, which is enough for
// [Client.Health]. Nothing is sent yet.
//
// Where the environment variable RELUKKO_TRUST_ME_IT_IS_LOCKED is set, to
// anything but "", the client is in trust mode: it makes no request, and each
// call returns the same made-up lock. That is for working on a thing that was
// locked by other means. A warning is logged, once.
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
	t := newTransport(base, apiKey, conf)
	c := &Client{
		base:      t.base.String(),
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

// Watch returns immediately, with a Watch that lasts until [Watch.Close], until
// ctx ends, or until the client closes. All Watches of a client share one
// WebSocket, which is opened for the first and closed with the last. It is
// checked by pings and opened again, with backoff, when it breaks. Where the
// answer is that there is none (an old backend, a proxy that lets none through,
// HTTP/2), the client tries again once a minute.
//
// The events are hints: they can be late or lost, and only asking the backend
// decides. The error is [ErrNoWatch] for a client that does not watch, or
// [ErrClosed].
func (c *Client) Watch(ctx context.Context) (*Watch, error) {
	if err := c.under.Refusal(); err != nil {
		return nil, err
	}
	return c.watches.watch(ctx)
}

// MaxWait returns how long the backend lets a create queue, as its last answer
// to a create said: the longest useful argument of [Wait]. It is 0 where the
// backend has no queue, and before the first create.
func (c *Client) MaxWait() time.Duration { return time.Duration(c.maxWait.Load()) }

// CanCallOff reports whether the backend can call creates off, as its last
// answer to a create said (in the header Relukko-Call-Off, which package server
// adds). Where it can, a create may be cancelled at any time, since
// [Client.CallOff] undoes what it did or will do.
func (c *Client) CanCallOff() bool { return c.callOff.Load() }

// Trusted reports whether the client is in trust mode, see [New].
func (c *Client) Trusted() bool { return c.trusted }

// BaseURL returns the backend's URL without user info and without a slash at
// the end, for messages.
func (c *Client) BaseURL() string { return c.base }

// String names the backend.
func (c *Client) String() string { return "relukko client of " + c.base }

// GoString returns what String returns: %#v shows no more.
func (c *Client) GoString() string { return c.String() }

// LogValue returns what String returns.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }
