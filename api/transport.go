package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	dialTime       = 5 * time.Second
	idleTime       = 60 * time.Second
	maxIdle        = 1024     // connections: as many as a process has busy waiters
	maxHeaderBytes = 64 << 10 // of an answer
	keepBuffer     = 64 << 10 // larger read buffers are not kept
)

// transport is the way to the backend. It knows the API key, so a Client reaches it
// through a function only: what prints values by reflection finds no key.
type transport struct {
	client  *http.Client
	send    func(*http.Request) (*http.Response, error)
	own     bool          // the transport is ours: it changes no request, and is ours to close
	limit   time.Duration // of the http.Client that was given; 0 where it has none
	secrets []string      // what must not show in an error

	base   url.URL // without user info, its path without a slash at the end
	locks  url.URL // base and /v1/locks/
	bare   http.Header
	plain  http.Header // with the key
	body   http.Header // with the key and a content type
	buffer sync.Pool   // of *[]byte, for answers
}

// newTransport returns the way to base. given is nil for a transport of our own.
func newTransport(base *url.URL, key string, given *http.Client, roots *x509.CertPool) *transport {
	w := &transport{own: given == nil, base: *base}
	w.buffer.New = func() any { b := make([]byte, 0, 2048); return &b }

	w.bare = http.Header{"Accept": {"application/json"}, "User-Agent": {"relukko-go"}}
	if u := base.User; u != nil { // sent as net/http would, and kept out of the URLs that errors name
		req := http.Request{Header: w.bare}
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
		w.hide(password)
		w.hide(strings.TrimPrefix(w.bare.Get("Authorization"), "Basic "))
	}
	w.base.User = nil
	w.plain = w.bare.Clone()
	if key != "" {
		w.plain[wire.HeaderAPIKey] = []string{key}
		w.hide(key)
	}
	w.body = w.plain.Clone()
	w.body["Content-Type"] = []string{"application/json"}
	w.locks = *w.url("/v1/locks/")

	if given != nil {
		client := *given
		w.client, w.limit = &client, client.Timeout
		client.Timeout = 0
	} else {
		w.client = &http.Client{Transport: newHTTPTransport(roots)}
	}
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w.send = w.client.Do
	if w.own {
		w.send = w.client.Transport.RoundTrip // nothing of http.Client is left to do
	}
	return w
}

// hide keeps secret out of errors. What is as short as a syllable hides
// nothing, and would make riddles of all messages.
func (w *transport) hide(secret string) {
	if len(secret) > 3 {
		w.secrets = append(w.secrets, secret)
	}
}

// newHTTPTransport is tuned for one host.
func newHTTPTransport(roots *x509.CertPool) *http.Transport {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTime,
		DisableCompression:     true, // what is bounded is what comes over the wire
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              new(http.Protocols), // HTTP/1.1 only, which the WebSocket needs
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// url returns base with path added, which has nothing to escape.
func (w *transport) url(path string) *url.URL {
	u := w.base
	if u.RawPath != "" {
		u.RawPath += path
	}
	u.Path += path
	return &u
}

// request makes the request of one attempt.
func (w *transport) request(ctx context.Context, k *call, a *attempt) *http.Request {
	req := http.Request{Method: k.method, Header: w.plain}
	switch k.kind {
	case isLock:
		req.URL = w.url("/v1/locks/" + k.id + k.path)
	case isHealth:
		req.URL, req.Header = w.url("/healthchecker"), w.bare
	case isCallOff:
		req.URL = w.url("/v1/waiting/" + k.name)
	default:
		req.URL = &w.locks
		if !w.own {
			u := w.locks
			req.URL = &u
		}
	}
	if k.body != nil {
		req.Header = w.body
		// A reader that net/http knows goes out in one piece with the headers.
		a.body.Reset(k.body)
		req.Body, req.ContentLength = io.NopCloser(&a.body), int64(len(k.body))
		// For a kept connection that turns out closed before a byte was written.
		// A POST, PUT or DELETE is repeated by net/http in no other case.
		req.GetBody = k.newBody
	}
	if k.wait > 0 || !w.own { // a RoundTripper or a cookie jar that was given may write to it
		req.Header = req.Header.Clone()
	}
	if k.wait > 0 {
		req.Header[wire.HeaderPrefer] = []string{wire.Preferences{Wait: k.wait}.String()}
	}
	a.trace.GotConn = func(httptrace.GotConnInfo) { a.got.Store(true) }
	if !w.own {
		a.trace.GetConn = func(string) { a.asked.Store(true) }
	}
	return req.WithContext(httptrace.WithClientTrace(ctx, &a.trace))
}

// attempt is one request: its body, and whether it may have been sent.
type attempt struct {
	trace      httptrace.ClientTrace
	asked, got atomic.Bool // for a connection, a connection
	body       bytes.Reader
}

// notSent: there never was a connection, so no byte can have been written. A
// transport that was given may not tell of its connections at all.
func (a *attempt) notSent(w *transport) bool {
	return (w.own || a.asked.Load()) && !a.got.Load()
}

func (k *call) newBody() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(k.body)), nil }

// attempt sends k once and checks the answer. Its errors are *Error and *failure.
func (c *Client) attempt(ctx context.Context, k *call, a *attempt) error {
	if ctx.Err() != nil {
		return &failure{op: k.op(), err: over(ctx), notSent: true}
	}
	w := c.transport()
	allowed, _ := k.limits()
	if w.limit > 0 && w.limit < allowed-k.wait {
		allowed = w.limit + k.wait
	}
	bounded, cancel := context.WithTimeout(ctx, allowed)
	defer cancel()
	if err := c.calls.attempt(k, cancel); err != nil {
		return &failure{op: k.op(), err: err, notSent: true}
	}
	err := c.exchange(bounded, k, a)
	if err == nil {
		return nil
	}
	if bounded.Err() == context.DeadlineExceeded {
		// The connection went dark, and so may those that are idle. Those that
		// belong to others who share a given transport are dialed again.
		w.client.CloseIdleConnections()
	}
	if e, ok := err.(*Error); ok {
		return e
	}
	f := &failure{op: k.op(), notSent: a.notSent(w)}
	switch {
	case ctx.Err() != nil:
		f.err = over(ctx)
	case bounded.Err() == context.Canceled: // by Close
		f.err = ErrClosed
	case bounded.Err() != nil:
		f.err, f.transient = attemptTimeout(allowed), true
	default:
		f.err, f.transient = w.cleanError(explain(err)), !unverified(err)
	}
	return f
}

// exchange sends k and reads the answer. Its errors are *Error, and whatever
// keeps it from getting a whole answer.
func (c *Client) exchange(ctx context.Context, k *call, a *attempt) error {
	w := c.transport()
	resp, err := w.send(w.request(ctx, k, a))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if k.kind == isCreate && (k.success(resp.StatusCode) || resp.StatusCode == http.StatusConflict) {
		c.maxWait.Store(int64(wire.ParseWait(resp.Header.Get(wire.HeaderWait))))
		c.callOff.Store(resp.Header.Get(wire.HeaderCallOff) == wire.CallOffOffered)
	}
	if k.success(resp.StatusCode) {
		err = w.accept(k, resp)
	} else {
		err = w.refusal(k, resp)
	}
	if _, ok := err.(*Error); err != nil && !ok {
		return fmt.Errorf("the answer (%d) broke off: %w", resp.StatusCode, err)
	}
	return err
}

// explain says in words what a network's error means, where its own text does not.
func explain(err error) error {
	if u, ok := err.(*url.Error); ok { // names the URL, which the caller knows
		err = u.Err
	}
	if err == io.EOF {
		return fmt.Errorf("the connection ended before an answer came: %w", err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Errorf("the other side does not speak TLS (http:// instead of https://?): %w", err)
	}
	if remedy := remedy(err); remedy != "" {
		return fmt.Errorf("%w (%s)", err, remedy)
	}
	return err
}

// remedy says what to do about a certificate that does not verify.
func remedy(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "to trust that authority have REQUESTS_CA_BUNDLE name a file with its certificate"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "have the base URL name the backend as its certificate does"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "the backend needs a new certificate, or this machine's clock is wrong"
	}
	return ""
}
