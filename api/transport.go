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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTime       = 5 * time.Second
	idleTime       = 60 * time.Second
	maxIdle        = 1024     // connections: as many as a process has busy waiters
	maxHeaderBytes = 64 << 10 // of an answer
	keepBuffer     = 64 << 10 // larger read buffers are not kept
)

// wire is the way to the backend. It knows the API key, so a Client reaches it
// through a function only: what prints values by reflection finds no key.
type wire struct {
	client  *http.Client
	send    func(*http.Request) (*http.Response, error)
	own     bool          // the transport is ours: it changes no request, and is ours to close
	limit   time.Duration // of the http.Client that was given; 0 where it has none
	secrets []string      // the key and a password

	base   url.URL // without user info, its path without a slash at the end
	locks  url.URL // base and /v1/locks/
	bare   http.Header
	plain  http.Header // with the key
	body   http.Header // with the key and a content type
	buffer sync.Pool   // of *[]byte, for answers
}

// newWire returns the way to base. given is nil for a transport of our own.
func newWire(base *url.URL, key string, given *http.Client, roots *x509.CertPool) *wire {
	w := &wire{own: given == nil, base: *base}
	w.buffer.New = func() any { b := make([]byte, 0, 2048); return &b }

	w.bare = http.Header{"Accept": {"application/json"}, "User-Agent": {"relukko-go"}}
	if u := base.User; u != nil { // sent as net/http would, and kept out of the URLs that errors name
		req := http.Request{Header: w.bare}
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
		if password != "" {
			w.secrets = append(w.secrets, password)
		}
	}
	w.base.User = nil
	w.plain = w.bare.Clone()
	if key != "" {
		w.plain["X-Api-Key"] = []string{key}
		w.secrets = append(w.secrets, key)
	}
	w.body = w.plain.Clone()
	w.body["Content-Type"] = []string{"application/json"}
	w.locks = *w.url("/v1/locks/")

	if given != nil {
		client := *given
		w.client, w.limit = &client, client.Timeout
		client.Timeout = 0
	} else {
		w.client = &http.Client{Transport: newTransport(roots)}
	}
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w.send = w.client.Do
	if w.own {
		w.send = w.client.Transport.RoundTrip // nothing of http.Client is left to do
	}
	return w
}

// newTransport is tuned for one host.
func newTransport(roots *x509.CertPool) *http.Transport {
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
func (w *wire) url(path string) *url.URL {
	u := w.base
	if u.RawPath != "" {
		u.RawPath += path
	}
	u.Path += path
	return &u
}

// request makes the request of one attempt.
func (w *wire) request(ctx context.Context, k *call, a *attempt) *http.Request {
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
		req.Header["Prefer"] = []string{"wait=" + strconv.Itoa(int(k.wait/time.Second))}
	}
	a.trace = httptrace.ClientTrace{
		GetConn: func(string) { a.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { a.got.Store(true) },
	}
	return req.WithContext(httptrace.WithClientTrace(ctx, &a.trace))
}

// attempt is one request: its body, and whether it may have been sent.
type attempt struct {
	trace      httptrace.ClientTrace
	asked, got atomic.Bool // for a connection, a connection
	body       bytes.Reader
}

// notSent: a transport that tells about its connections never had one, so no
// byte can have been written.
func (a *attempt) notSent() bool { return a.asked.Load() && !a.got.Load() }

func (k *call) newBody() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(k.body)), nil }

// attempt sends k once and checks the answer. Its errors are *Error and *failure.
func (c *Client) attempt(ctx context.Context, k *call, a *attempt) error {
	w := c.wire()
	allowed, size := k.limits()
	if w.limit > 0 && w.limit < allowed-k.wait {
		allowed = w.limit + k.wait
	}
	if ctx.Err() != nil {
		return &failure{op: k.op(), err: over(ctx), notSent: true}
	}
	bounded, cancel := context.WithTimeout(ctx, allowed)
	defer cancel()
	if err := c.calls.attempt(k, cancel); err != nil {
		return &failure{op: k.op(), err: err, notSent: true}
	}
	resp, err := w.send(w.request(bounded, k, a))
	if err != nil {
		return c.failed(ctx, bounded, k, a, allowed, err)
	}
	defer resp.Body.Close()
	if k.kind == isCreate {
		c.maxWait.Store(int64(relukkoWait(resp.Header)))
	}
	if k.success(resp.StatusCode) {
		err = w.read(resp.Body, size, k.decode)
		if _, ok := err.(badAnswer); ok {
			return &Error{Op: k.op(), Status: resp.StatusCode, Message: w.clean(err.Error())}
		}
	} else {
		var e *Error
		if e, err = w.refusal(k, resp); err == nil {
			return e
		}
	}
	if err != nil {
		return c.failed(ctx, bounded, k, a, allowed, fmt.Errorf("the answer (%d) broke off: %w", resp.StatusCode, err))
	}
	return nil
}

// failed makes the error of an attempt that got no whole answer.
func (c *Client) failed(ctx, bounded context.Context, k *call, a *attempt, allowed time.Duration, err error) error {
	w := c.wire()
	f := &failure{op: k.op(), notSent: a.notSent()}
	switch {
	case ctx.Err() != nil:
		f.err = over(ctx)
	case c.calls.isOver():
		f.err = ErrClosed
	case bounded.Err() != nil:
		f.err, f.transient = attemptTimeout(allowed), true
	default:
		if u, ok := err.(*url.Error); ok { // names the URL, which the caller knows
			err = u.Err
		}
		f.transient = !unverified(err)
		if err == io.EOF {
			err = fmt.Errorf("the connection ended before an answer came: %w", err)
		} else if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
			err = fmt.Errorf("the other side does not speak TLS (http:// instead of https://?): %w", err)
		}
		f.err = w.cleanError(err)
	}
	if errors.Is(bounded.Err(), context.DeadlineExceeded) {
		// The connection went dark, and so may those that are idle. Those that
		// belong to others who share a given transport are dialed again.
		w.client.CloseIdleConnections()
	}
	return f
}

// badAnswer is an answer that came whole and is not what was asked for.
type badAnswer struct{ error }

// success reports whether status promises what was asked for.
func (k *call) success(status int) bool {
	if k.kind == isCallOff {
		return status == http.StatusNoContent
	}
	return status/100 == 2
}

// decode takes the answer to k from body, whose end is as in read.
func (k *call) decode(body []byte, end error) (err error) {
	if end != nil {
		return end
	}
	switch k.kind {
	case isLock, isCreate:
		if k.lock, err = decodeLock(body, &k.like); err != nil {
			return badAnswer{fmt.Errorf("the answer is not a lock: %w", err)}
		}
	case isList:
		if k.list, err = decodeList(body); err != nil {
			return badAnswer{fmt.Errorf("the answer is not a list of locks: %w", err)}
		}
	}
	switch l := &k.lock; {
	case k.kind == isLock && l.ID != k.id:
		return badAnswer{fmt.Errorf("the answer is another lock: %s", l.ID)}
	case k.kind == isCreate && l.Name != k.name:
		return badAnswer{fmt.Errorf("the answer is another lock: %q", l.Name)}
	case k.kind == isCreate && !l.ExpiresAt.After(l.CreatedAt):
		return badAnswer{errors.New("the answer is a lock that expires before it was created")}
	}
	return nil
}

// refusal makes an Error of an answer that is none of the expected ones. It
// fails where the body decides what the answer means, and breaks off.
func (w *wire) refusal(k *call, resp *http.Response) (*Error, error) {
	e := &Error{Op: k.op(), Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		e.Message = "the answer switches to another protocol"
		return e, nil // its body is an open connection
	case resp.StatusCode/100 == 3:
		e.Message = "an answer that redirects is not followed"
		if to, err := resp.Location(); err == nil {
			to.User = nil
			e.Message = "not followed, since the API key would be sent along: " + w.clean(to.String())
		}
		return e, nil
	}
	err := w.read(resp.Body, maxErrorAnswer, func(body []byte, end error) error {
		switch {
		case end == nil:
			e.errorOf(body, k.kind == isLock)
		case goneStatus(e.Status) && end != errTooLong:
			return end
		default:
			e.Message = string(body)
		}
		return nil
	})
	e.Message = w.clean(e.Message)
	return e, err
}

var errTooLong = badAnswer{errors.New("the answer is too long")}

// read hands r to use, which must not keep it: all of it, or its first limit
// bytes and errTooLong, or what came before the error.
func (w *wire) read(r io.Reader, limit int, use func(body []byte, end error) error) error {
	buf := w.buffer.Get().(*[]byte)
	b := (*buf)[:0]
	defer func() {
		if cap(b) <= keepBuffer {
			*buf = b
			w.buffer.Put(buf)
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
func (w *wire) clean(s string) string {
	for _, secret := range w.secrets {
		s = strings.ReplaceAll(s, secret, "[secret]")
	}
	return harmless(s, maxMessage)
}

// cleanError is clean for an error. Only one that tells a secret loses its chain.
func (w *wire) cleanError(err error) error {
	text := err.Error()
	for _, secret := range w.secrets {
		if strings.Contains(text, secret) {
			return &cleaned{text: w.clean(text)}
		}
	}
	if short := harmless(text, 2*maxMessage); short != text {
		return &cleaned{text: short, err: err}
	}
	return err
}

// relukkoWait reads how long the backend lets a create wait.
func relukkoWait(h http.Header) time.Duration {
	s := h.Get("Relukko-Wait")
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, maxWait)
}
