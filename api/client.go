// Package api is the whole Relukko API, for those who want the locks themselves.
package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/internal/tasks"
)

func newReader(b []byte) io.Reader { return bytes.NewReader(b) }

// Client speaks to one Relukko backend. Make one with [New] or [FromEnv].
type Client struct {
	baseURL string
	apiKey  func() string
	client  *http.Client
	log     *slog.Logger
	noWatch bool
	trusted bool
	maxWait atomic.Int64
	closed  atomic.Bool
	tasks   *tasks.Group
}

// Option is an option of [New] and [FromEnv].
type Option func(*Client)

// WithHTTPClient makes the client send its requests through h.
func WithHTTPClient(h *http.Client) Option {
	return func(c *Client) { copied := *h; c.client = &copied }
}

// WithLogger makes the client log to l.
func WithLogger(l *slog.Logger) Option { return func(c *Client) { c.log = l } }

// WithoutWatch makes [Client.Watch] answer [ErrNoWatch].
func WithoutWatch() Option { return func(c *Client) { c.noWatch = true } }

// New returns a client of the backend at baseURL.
func New(baseURL, apiKey string, opts ...Option) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("relukko: base URL: want http(s)://host")
	}
	u.User = nil
	c := &Client{
		baseURL: strings.TrimRight(u.String(), "/"),
		apiKey:  func() string { return apiKey },
		client:  &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()},
		trusted: os.Getenv("RELUKKO_TRUST_ME_IT_IS_LOCKED") != "",
		tasks:   tasks.NewGroup(ErrClosed),
	}
	for _, opt := range opts {
		opt(c)
	}
	c.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// FromEnv returns the client that the environment describes.
func FromEnv(opts ...Option) (*Client, error) {
	base := os.Getenv("RELUKKO_BASE_URL")
	if base == "" {
		base = "http://localhost:3000"
	}
	return New(base, os.Getenv("RELUKKO_API_KEY"), opts...)
}

// Trusted reports whether RELUKKO_TRUST_ME_IT_IS_LOCKED was set when the client was made.
func (c *Client) Trusted() bool { return c.trusted }

// BaseURL is the backend's, without user info; for messages.
func (c *Client) BaseURL() string { return c.baseURL }

// Tasks is for package relukko.
func (c *Client) Tasks() *tasks.Group { return c.tasks }

// Close refuses new work, waits for holders and cleanups until ctx ends, then
// ends what is left and says what that was.
func (c *Client) Close(ctx context.Context) error {
	c.closed.Store(true)
	left := c.tasks.Close(ctx)
	c.client.CloseIdleConnections()
	if len(left) > 0 {
		return fmt.Errorf("relukko: closed with %d unfinished: %s", len(left), strings.Join(left, "; "))
	}
	return nil
}

func (c *Client) enter(ctx context.Context) error {
	if c.closed.Load() && !tasks.Permitted(ctx) {
		return ErrClosed
	}
	return nil
}

func trustLock() Lock {
	t := time.Unix(0, 0).UTC()
	return Lock{
		ID: "00000000-0000-0000-0000-000000000000", Name: "WE TRUST YOU", Creator: "Dummy Dummy", IP: "0.0.0.0",
		ExpiresAt: t, CreatedAt: t, UpdatedAt: t,
	}
}
