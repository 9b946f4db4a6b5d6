package api

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"gitlab.com/relukko/relukko-go/internal/tasks"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Client speaks to one Relukko backend. Make one with [New] or [FromEnv], use
// it from any number of goroutines, and [Client.Close] it in the end. However
// it is printed, it shows the backend's URL and no secret.
type Client struct {
	base      string
	transport func() *transport // what it returns knows the API key
	log       *slog.Logger
	trusted   bool
	maxWait   atomic.Int64
	callOff   atomic.Bool

	tasks   *tasks.Group
	calls   *calls
	watches *hub

	patience context.Context // of Close
	giveUp   context.CancelFunc
	closed   chan struct{} // closed when Close is done
	closeErr error         // set before that
}

// An Option changes what [New] and [FromEnv] make.
type Option func(*config)

type config struct {
	client  *http.Client
	log     *slog.Logger
	noWatch bool
	roots   *x509.CertPool // nil: the system's
}

// WithHTTPClient sends everything, the WebSocket too, through h: for a
// transport with a proxy, certificates or instruments of its own. It is copied;
// its Transport is used as it is, but that no redirect is followed, that a
// shorter Timeout is kept for each attempt (a create that waits on the server
// gets its wait on top), and that its idle connections are closed when an
// attempt has timed out. The CA variables of [FromEnv] do not change it. Over
// HTTP/2 there is no WebSocket, see [Client.Watch]. nil: a transport of our own.
func WithHTTPClient(h *http.Client) Option {
	return func(c *config) { c.client = h }
}

// WithLogger logs to l: retries and changes of the WebSocket's state at
// [slog.LevelDebug], trust mode at [slog.LevelWarn]. Without it, and with nil,
// only trust mode is logged, to [slog.Default].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.log = l }
}

// WithoutWatch makes [Client.Watch] answer [ErrNoWatch], so that no WebSocket
// is ever opened.
func WithoutWatch() Option {
	return func(c *config) { c.noWatch = true }
}

// New returns a client of the backend at baseURL, "http://host:3000" or
// "https://ci.example/relukko/": with scheme and host, perhaps with a path
// before the API's own, without query and fragment. User and password in it
// are sent as basic authentication and shown nowhere. apiKey is sent as the
// header X-API-KEY; an empty one is not sent, which is enough for
// [Client.Health]. Nothing is sent yet.
//
// Where the environment variable RELUKKO_TRUST_ME_IT_IS_LOCKED is set, to
// anything but "", the client is in trust mode: no request is ever made and
// every call answers the same made-up lock. That is for working on a thing
// that was locked by other means, and logged once as a warning.
func New(baseURL, apiKey string, opts ...Option) (*Client, error) {
	return newClient("base URL", baseURL, "API key", apiKey, nil, opts)
}

const (
	envBaseURL = "RELUKKO_BASE_URL"
	envAPIKey  = "RELUKKO_API_KEY"
	envTrust   = "RELUKKO_TRUST_ME_IT_IS_LOCKED"

	defaultBaseURL = "http://localhost:3000"
)

// FromEnv returns the client that the environment describes:
//   - RELUKKO_BASE_URL: as for [New]; http://localhost:3000 where it is not set
//   - RELUKKO_API_KEY: must be set, but in trust mode
//   - REQUESTS_CA_BUNDLE, else CURL_CA_BUNDLE: a PEM file, or a directory of
//     such files, with certificates that are trusted for https and wss besides
//     those of the system
//   - RELUKKO_TRUST_ME_IT_IS_LOCKED: see [New]
//   - HTTP_PROXY, HTTPS_PROXY, NO_PROXY: see [http.ProxyFromEnvironment]
//
// A variable that is set to "" counts as not set.
func FromEnv(opts ...Option) (*Client, error) {
	base := os.Getenv(envBaseURL)
	if base == "" {
		base = defaultBaseURL
	}
	key := os.Getenv(envAPIKey)
	if os.Getenv(envTrust) != "" {
		return newClient(envBaseURL, base, envAPIKey, key, nil, opts)
	}
	if key == "" {
		return nil, errors.New("relukko: no API key: set " + envAPIKey)
	}
	roots, err := rootsFromEnv()
	if err != nil {
		return nil, err
	}
	return newClient(envBaseURL, base, envAPIKey, key, roots, opts)
}

// newClient calls the base URL and the key by the names that the caller gave them.
func newClient(urlName, baseURL, keyName, apiKey string, roots *x509.CertPool, opts []Option) (*Client, error) {
	conf := config{roots: roots}
	for _, opt := range opts {
		opt(&conf)
	}
	base, err := parseBase(baseURL)
	if err != nil {
		return nil, fmt.Errorf("relukko: %s %w", urlName, err)
	}
	if err := checkKey(apiKey); err != nil {
		return nil, fmt.Errorf("relukko: %s: %w", keyName, err)
	}
	w := newTransport(base, apiKey, conf.client, conf.roots)
	c := &Client{
		base:      w.base.String(),
		transport: func() *transport { return w },
		log:       conf.log,
		trusted:   os.Getenv(envTrust) != "",
		tasks:     tasks.NewGroup(ErrClosed),
		calls:     newCalls(),
		closed:    make(chan struct{}),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.patience, c.giveUp = context.WithCancel(context.Background())
	c.watches = newHub(c.transport, c.log)
	c.watches.none = conf.noWatch || c.trusted
	if c.trusted {
		warnTrust(conf.log, c.base)
	}
	return c, nil
}

// parseBase checks a base URL. Its errors quote no URL that may hold a password.
func parseBase(s string) (*url.URL, error) {
	shown := strconv.Quote(wire.Printable(s, maxMessage))
	if strings.Contains(s, "@") {
		shown = "(not shown, it holds user info)"
	}
	wrong := func(what string) error { return fmt.Errorf("%s: %s", shown, what) }

	u, err := url.Parse(s)
	if err != nil {
		reason, ok := errors.AsType[*url.Error](err)
		if !ok || strings.Contains(s, "@") {
			return nil, wrong("it cannot be parsed")
		}
		return nil, wrong(wire.Printable(reason.Err.Error(), maxMessage))
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, wrong("it must begin with http:// or https://")
	case u.Hostname() == "":
		return nil, wrong("it names no host")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return nil, wrong("it must have neither query nor fragment")
	case strings.Contains(u.EscapedPath(), "@"):
		return nil, wrong("in a user name or password / is written %2F, in a path @ is written %40")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, wrong("there is no such port")
		}
	}
	escaped := u.EscapedPath()
	slashes := len(escaped) - len(strings.TrimRight(escaped, "/"))
	u.Path = u.Path[:len(u.Path)-slashes]
	if u.RawPath != "" {
		u.RawPath = u.RawPath[:len(u.RawPath)-slashes]
	}
	return u, nil
}

// checkKey refuses what cannot be the value of a header. Its errors do not quote it.
func checkKey(key string) error {
	for i := range len(key) {
		if key[i] < ' ' || key[i] == 0x7f {
			return errors.New("it has a control character (a line break at its end?), which a header cannot carry")
		}
	}
	if strings.TrimSpace(key) != key {
		return errors.New("it begins or ends with white space, which a header does not carry")
	}
	return nil
}

// Trusted reports whether the client is in trust mode, see [New].
func (c *Client) Trusted() bool { return c.trusted }

// BaseURL is the backend's, without user info and without a slash at the end;
// for messages.
func (c *Client) BaseURL() string { return c.base }

// Tasks is for package relukko, whose mutexes keep account of themselves in it.
func (c *Client) Tasks() *tasks.Group { return c.tasks }

// String names the backend.
func (c *Client) String() string { return "relukko client of " + c.base }

// GoString is String: %#v shows no more.
func (c *Client) GoString() string { return c.String() }

// LogValue is String.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }
