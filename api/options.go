package api

import (
	"crypto/x509"
	"log/slog"
	"net/http"
)

// Option configures the [Client] that [New] and [FromEnv] return.
type Option func(*config)

type config struct {
	client  *http.Client
	log     *slog.Logger
	noWatch bool
	roots   *x509.CertPool // nil: the system's
	askKey  func() (string, error)
}

func newConfig(opts []Option) config {
	var conf config
	for _, opt := range opts {
		opt(&conf)
	}
	return conf
}

// WithHTTPClient sends all requests through h, the WebSocket's too: for a transport with a proxy,
// client certificates or instrumentation. The default, also for nil, is a transport of the client's
// own.
//
// h is copied. Its Transport is used as it is, but no redirect is followed. If h.Timeout is shorter
// than the client's own limit, it limits each attempt; the time for which a create may wait on the
// server is added. A base URL with unix:// is an error: use http://localhost, and a Transport that
// dials the socket. [WithRootCAs] and the CA variables of [FromEnv] do not change h. There is no
// WebSocket over HTTP/2; see [Client.Watch].
//
// A Transport may repeat requests by itself. The client can tell that a request was not repeated if
// the Transport calls the hooks of net/http/httptrace, as *http.Transport does, also inside a
// wrapper. Otherwise [NoEffect] is false and [Error.MaybeDone] is set. If the Transport is not an
// *http.Transport, [FreshConn] only requests that the connection be closed afterwards.
func WithHTTPClient(h *http.Client) Option {
	return func(c *config) { c.client = h }
}

// WithRootCAs sets the only certificates by which the backend's is verified, for https and wss. The
// default, also for nil, is the system's with [New], and those of [RootCAsFromEnv] with [FromEnv].
func WithRootCAs(pool *x509.CertPool) Option {
	return func(c *config) { c.roots = pool }
}

// WithAPIKeyFunc sets a function that returns the API key, for keys that change. It takes
// precedence over the key given to [New] and over RELUKKO_API_KEY. The default, also for nil, is a
// fixed key.
//
// The client calls f for its first request, for each new WebSocket connection, and when the backend
// refuses the key with 401, 403 or 429; if f then returns another key, the request is sent once
// more. A held lock outlives such refusals until its lease ends, so f may return another key until
// then. f is never called by two goroutines at a time. It must return, but a call whose context
// ends does not wait for it.
//
// If f returns an error, the call that needs the key returns it and has no effect. The error is
// [Transient] only if f has returned a key before. Every key of f is kept as secret as a fixed one.
// The text of its errors must not contain a key.
func WithAPIKeyFunc(f func() (key string, err error)) Option {
	return func(c *config) { c.askKey = f }
}

// WithLogger sets the logger: retries and changes of the WebSocket's state at [slog.LevelDebug],
// trust mode at [slog.LevelWarn]. The default, also for nil, is to log only trust mode, to
// [slog.Default].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.log = l }
}

// WithoutWatch makes [Client.Watch] return [ErrNoWatch], so that the client opens no WebSocket.
func WithoutWatch() Option {
	return func(c *config) { c.noWatch = true }
}
