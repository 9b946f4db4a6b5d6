package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/internal/unixsock"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

const (
	idleTime       = 60 * time.Second
	maxIdle        = 1024     // connections: as many as a process has busy waiters
	maxHeaderBytes = 64 << 10 // of an answer
	keepBuffer     = 64 << 10 // larger read buffers are not kept
)

// transport carries requests to the backend. It knows the API key, so a Client
// reaches it through a func only: what prints values by reflection finds no key.
type transport struct {
	client *http.Client  // over connections that are kept
	own    bool          // it is ours: it changes no request, and is ours to close
	limit  time.Duration // of the http.Client that was given; 0 where it has none

	aloneOnce sync.Once
	alone     atomic.Pointer[http.Client] // over a connection for each request; nil: unused
	suspect   atomic.Bool                 // a kept connection has not answered in time

	keys    *keys
	secrets secrets

	base   url.URL   // without user info, its path without a slash at the end
	locks  url.URL   // base and /v1/locks/
	buffer sync.Pool // of *[]byte, for answers
}

// newTransport returns the transport to base.
func newTransport(base *target, key string, conf config) *transport {
	t := &transport{own: conf.client == nil, base: *base.url}
	t.buffer.New = func() any { b := make([]byte, 0, 2048); return &b }

	header := http.Header{"Accept": {"application/json"}, "User-Agent": {"relukko-go"}}
	if u := base.url.User; u != nil { // sent as net/http would, but not in URLs, which errors name
		req := http.Request{Header: header}
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
		t.secrets.fix(password)
		t.secrets.fix(strings.TrimPrefix(header.Get("Authorization"), "Basic "))
	}
	t.base.User = nil
	t.locks = *withPath(t.base, "/v1/locks/")
	t.keys = newKeys(header, key, conf.askKey, &t.secrets)

	client := &http.Client{}
	if t.own {
		client.Transport = newHTTPTransport(base.socket, conf.roots)
	} else {
		*client = *conf.client
		t.limit, client.Timeout = client.Timeout, 0
		if client.Transport == nil {
			client.Transport = http.DefaultTransport
		}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}
	t.client = client
	return t
}

// newHTTPTransport returns a transport that is tuned for one host, or for the Unix socket with that
// path, which no proxy is used for.
func newHTTPTransport(socket string, roots *x509.CertPool) *http.Transport {
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            newDialer().dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTime,
		DisableCompression:     true, // what is bounded is what comes over the wire
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              new(http.Protocols), // HTTP/1.1 only, which the WebSocket needs
	}
	t.Protocols.SetHTTP1(true)
	if socket != "" {
		t.Proxy, t.DialContext = nil, unixsock.Dialer(socket)
	}
	return t
}

// withoutKept returns a copy of client that takes no kept connection and keeps
// none. A transport that is not an *http.Transport stays as it is.
func withoutKept(client *http.Client) *http.Client {
	c := *client
	if t, ok := c.Transport.(*http.Transport); ok {
		t = t.Clone()
		t.DisableKeepAlives = true
		c.Transport = t
	}
	return &c
}

// withPath returns u with path added, which has nothing to escape.
func withPath(u url.URL, path string) *url.URL {
	if u.RawPath != "" {
		u.RawPath += path
	}
	u.Path += path
	return &u
}

// urlOf returns the URL of k. A transport that is not our own may write to it.
func (t *transport) urlOf(k *call) *url.URL {
	switch {
	case k.kind == isLock:
		return withPath(t.locks, k.id+k.path)
	case k.kind == isHealth:
		return withPath(t.base, "/healthchecker")
	case k.kind == isReport:
		u := withPath(t.base, k.path)
		u.RawQuery = k.query.Encode()
		return u
	}
	searches := k.kind == isList && k.name != ""
	if t.own && !searches {
		return &t.locks
	}
	u := t.locks
	if searches {
		u.RawQuery = url.Values{"lock_name": {k.name}}.Encode()
	}
	return &u
}

// request makes the request of one attempt.
func (t *transport) request(ctx context.Context, k *call, a *attempt) *http.Request {
	req := http.Request{Method: k.method, URL: t.urlOf(k), Header: a.sent.plain}
	if k.method == http.MethodGet && (k.kind == isList || k.kind == isLock && k.path == "") {
		u := *req.URL
		u.RawQuery = strings.TrimPrefix(u.RawQuery+"&waiters=1", "&")
		req.URL = &u
	}
	if k.body != nil {
		req.Header = a.sent.body
		// A reader that net/http knows goes out in one piece with the headers.
		a.body.Reset(k.body)
		req.Body, req.ContentLength = io.NopCloser(&a.body), int64(len(k.body))
		// For a kept connection that turns out closed before a byte was written.
		// A POST, PUT or DELETE is repeated by net/http in no other case.
		req.GetBody = k.newBody
	}
	if p := (wire.Preferences{Wait: k.wait, Lease: k.lease}); p != (wire.Preferences{}) {
		req.Header = a.sent.prefer(p)
	}
	if !t.own { // a RoundTripper that was given may write to it
		req.Header = req.Header.Clone()
	} else if k.mark != "" || k.reason != nil {
		req.Header = maps.Clone(req.Header)
	}
	if k.reason != nil {
		req.Header[wire.HeaderReason] = []string{wire.FormatReason(*k.reason)}
	}
	if k.mark != "" {
		req.Header[wire.HeaderMark] = []string{k.mark}
	}
	a.trace.GotConn = func(c httptrace.GotConnInfo) {
		a.conns.Add(1)
		a.reused.Store(c.Reused)
	}
	if !t.own {
		a.trace.GetConn = func(string) { a.asked.Store(true) }
	}
	return req.WithContext(httptrace.WithClientTrace(ctx, &a.trace))
}

// exchange sends req: alone on a connection, or over a kept one where there is one. After one that
// did not answer in time the others may be dead as well: the next request takes a new one. They are
// not closed: if the new one does not answer either, or if any has answered, they are used again.
func (t *transport) exchange(req *http.Request, a *attempt, alone bool) (*http.Response, error) {
	resp, err := t.send(req, alone || t.suspect.Load())
	suspect := err != nil && a.reused.Load()
	if err == nil || a.stalled.Load() || req.Context().Err() == context.DeadlineExceeded {
		t.suspect.Store(suspect)
	}
	return resp, err
}

func (t *transport) send(req *http.Request, alone bool) (*http.Response, error) {
	client := t.client
	if alone {
		t.aloneOnce.Do(func() { t.alone.Store(withoutKept(t.client)) })
		client = t.alone.Load()
		req.Close = true
	}
	if t.own {
		return client.Transport.RoundTrip(req) // nothing of http.Client is left to do
	}
	return client.Do(req)
}

// close closes what is ours: connections that are idle or still being made.
func (t *transport) close() {
	if t.own {
		t.client.CloseIdleConnections()
	}
	if alone := t.alone.Load(); alone != nil && alone.Transport != t.client.Transport {
		alone.CloseIdleConnections()
	}
}

var errTooLong = errors.New("the answer is too long")

// read hands r to use, which must not keep it: all of it, or its first limit
// bytes and errTooLong, or what came before the error.
func (t *transport) read(r io.Reader, limit int, use func(body []byte, end error) error) error {
	buf := t.buffer.Get().(*[]byte)
	b := (*buf)[:0]
	defer func() {
		if cap(b) <= keepBuffer {
			*buf = b
			t.buffer.Put(buf)
		}
	}()
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):min(cap(b), limit+1)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return use(b[:limit], errTooLong)
		case err == io.EOF:
			return use(b, nil)
		case err != nil:
			return use(b, err)
		}
	}
}

// clean makes a text from outside fit for an error: short, on one line, and
// without what is secret, should that have been sent back.
func (t *transport) clean(s string) string {
	return wire.Printable(t.secrets.cut(s), maxMessage)
}

// cleanError is clean for an error. Only one that tells a secret loses its chain.
func (t *transport) cleanError(err error) error {
	text := err.Error()
	if cut := t.secrets.cut(text); cut != text {
		return &cleaned{text: wire.Printable(cut, maxMessage)}
	}
	if short := wire.Printable(text, 2*maxMessage); short != text {
		return &cleaned{text: short, err: err}
	}
	return err
}
