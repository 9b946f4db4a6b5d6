package api

import (
	"crypto/x509"
	"log/slog"
	"net/http"
)

// An Option changes what [New] and [FromEnv] make.
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

// WithHTTPClient sends everything, the WebSocket too, through h: for a
// transport with a proxy, client certificates or instrumentation. nil, the
// default, is a transport of the client's own.
//
// h is copied. Its Transport is used as it is, but no redirect is followed. A
// Timeout that is shorter than the client's own limit bounds each attempt; a
// create that waits on the server gets its wait on top. [WithRootCAs] and the
// CA variables of [FromEnv] do not change h. Over HTTP/2 there is no WebSocket,
// see [Client.Watch].
//
// A Transport may repeat requests by itself. It is trusted not to have done so
// where the hooks of net/http/httptrace are called for one connection a
// request, as those of *http.Transport are, also below a wrapper. Otherwise
// [NoEffect] reports false and [Error].MaybeDone is set. With a Transport that
// is not an *http.Transport, [FreshConn] only asks for the connection to be
// closed afterwards.
func WithHTTPClient(h *http.Client) Option {
	return func(c *config) { c.client = h }
}

// WithRootCAs verifies the backend's certificate, for https and wss, against
// pool and nothing else. nil, the default, is the system's certificates with
// [New] and those of [RootCAsFromEnv] with [FromEnv].
func WithRootCAs(pool *x509.CertPool) Option {
	return func(c *config) { c.roots = pool }
}

// WithAPIKeyFunc takes the API key from f, for keys that change. It wins over
// the key that is given to [New] and over RELUKKO_API_KEY.
//
// f is called for the first request, for each new WebSocket connection, and
// when the backend has refused a key with 401 or 403. If f returns another key
// then, the request is sent once more. f is called by one goroutine at a time.
// It must return; a call whose context ends does not wait for it.
//
// An error of f is the error of the call that needs the key, which has had no
// effect. It is [Transient] only where an earlier key exists. Each key that f
// has returned is kept as secret as a fixed one, and so must be the text of its
// errors.
func WithAPIKeyFunc(f func() (key string, err error)) Option {
	return func(c *config) { c.askKey = f }
}

// WithLogger logs to l: retries and changes of the WebSocket's state at
// [slog.LevelDebug], trust mode at [slog.LevelWarn]. Without it, and with nil,
// only trust mode is logged, to [slog.Default].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.log = l }
}

// WithoutWatch makes [Client.Watch] return [ErrNoWatch], so that no WebSocket
// is ever opened.
func WithoutWatch() Option {
	return func(c *config) { c.noWatch = true }
}
