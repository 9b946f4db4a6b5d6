package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a single request can run into, and what the error then says of it.
func TestFailuresAreToldApart(t *testing.T) {
	afterRequest := func(answer string) func(t *testing.T) string {
		return func(t *testing.T) string {
			return raw(t, func(conn net.Conn) {
				if _, err := readRequest(conn); err == nil {
					io.WriteString(conn, answer)
				}
			})
		}
	}
	answers := func(status int, body string, header ...string) func(t *testing.T) string {
		return func(t *testing.T) string { return serve(t, answer(status, body, header...)) }
	}
	const (
		no        = 0
		transient = 1 << iota
		notSent
		gone
		held
		refused
		canceled
	)
	tests := []struct {
		name   string
		url    func(t *testing.T) string
		opts   []Option
		status int // 0: no *Error
		want   int
		says   string
	}{
		{"dial refused", func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			return "http://" + l.Addr().String()
		}, nil, 0, transient | notSent, "connection refused"},
		{"no such host", func(*testing.T) string {
			return "http://backend"
		}, []Option{WithHTTPClient(dialing(t, func(context.Context) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host",
				Name: "backend"}}
		}))}, 0, transient | notSent, "no such host"},
		{"reset within the request", func(t *testing.T) string {
			return raw(t, func(conn net.Conn) {
				conn.Read(make([]byte, 1))
				conn.(*net.TCPConn).SetLinger(0)
			})
		}, nil, 0, transient, ""},
		{"closed after the request was read", afterRequest(""), nil, 0, transient,
			"the connection ended before an answer came: EOF"},
		{"headers cut", afterRequest("HTTP/1.1 200 OK\r\nContent-Le"), nil, 0, transient, "broken"},
		{"body cut", afterRequest("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + testLock[:50]),
			nil, 0, transient, "the answer (200) broke off: unexpected EOF"},
		{"chunked body cut", afterRequest(
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"id\""), nil, 0,
			transient, "broke off"},
		{"error body of a 404 cut",
			afterRequest("HTTP/1.1 404 Not Found\r\nContent-Length: 300\r\n\r\n" + goneBody), nil,
			0, transient, "the answer (404) broke off"},
		{"error body of a 409 cut",
			afterRequest("HTTP/1.1 409 Conflict\r\nContent-Length: 300\r\n\r\nno"), nil, 409,
			held, "409 Conflict: no"},
		{"not HTTP", afterRequest("220 mail ready\r\n"), nil, 0, transient, "malformed"},
		{"TLS, unknown CA", func(t *testing.T) string {
			s := httptest.NewUnstartedServer(answer(200, testLock))
			s.Config.ErrorLog = quiet
			s.StartTLS()
			t.Cleanup(s.Close)
			return s.URL
		}, nil, 0, notSent, "certificate"},
		{"TLS, plain answer", func(t *testing.T) string {
			return strings.Replace(serve(t, answer(200, testLock)), "http:", "https:", 1)
		}, nil, 0, transient | notSent, "does not speak TLS"},
		{"TLS, closed in the handshake", func(t *testing.T) string {
			return strings.Replace(raw(t, func(conn net.Conn) {
				conn.Read(make([]byte, 10))
			}), "http:", "https:", 1)
		}, nil, 0, transient | notSent, ""},
		{"400", answers(400, `{"status":400,"message":"lock_name is too long"}`), nil, 400,
			notSent | refused, "400 Bad Request: lock_name is too long"},
		{"400 of a proxy", answers(400, "<html>400</html>"), nil, 400, no, "400 Bad Request"},
		{"401", answers(401, ""), nil, 401, no, "401 Unauthorized"},
		{"401 of its own", answers(401, `{"status":401,"message":"no key"}`), nil, 401,
			notSent | refused, "no key"},
		{"403", answers(403, "wrong key"), nil, 403, no, "wrong key"},
		{"403 of its own", answers(403, `{"status":403,"message":"wrong key"}`), nil, 403,
			notSent | refused, "wrong key"},
		{"404", answers(404, goneBody), nil, 404, notSent | gone, "no such lock"},
		{"404 in another form", answers(404, `{"message":"x","status":4.04e2}`), nil, 404,
			notSent | gone, ""},
		{"404 that says 422", answers(404, `{"message":"x","status":422}`), nil, 404, no, ""},
		{"422", answers(422, `{"status":422,"message":"gone"}`), nil, 422, notSent | gone, ""},
		{"404 of a proxy", answers(404, "<html>404</html>"), nil, 404, no, "<html>404</html>"},
		{"404 empty", answers(404, ""), nil, 404, no, "404 Not Found"},
		{"404 with a third member", answers(404, `{"status":404,"message":"x","path":"/"}`), nil,
			404, no, ""},
		{"404 with a status as text", answers(404, `{"status":"404","message":"x"}`), nil, 404,
			no, ""},
		{"404 with another status", answers(404, `{"status":500,"message":"x"}`), nil, 404, no,
			""},
		{"404 without a message", answers(404, `{"status":404,"message":null}`), nil, 404, no,
			""},
		{"404 in a list", answers(404, `[`+goneBody+`]`), nil, 404, no, ""},
		{"410", answers(410, ""), nil, 410, no, ""},
		{"409", answers(409, `{"status":409,"message":"held"}`), nil, 409, notSent | held, "held"},
		{"418", answers(418, "tea"), nil, 418, no, "tea"},
		{"429", answers(429, "slow down"), nil, 429, transient, "slow down"},
		{"500", answers(500, goneBody), nil, 500, transient, ""},
		{"501", answers(501, ""), nil, 501, no, ""},
		{"502", answers(502, "<html>"), nil, 502, transient, "<html>"},
		{"503", answers(503, ""), nil, 503, transient, ""},
		{"504", answers(504, ""), nil, 504, transient, ""},
		{"301", answers(301, "", "Location", "https://u:pw@other/?a=b"), nil, 301, no,
			"https://other/?a=b"},
		{"307 to itself", answers(307, "", "Location", "/login"), nil, 307, no, "/login"},
		{"302 to nowhere", answers(302, "", "Location", ":%%"), nil, 302, no, "redirects"},
		{"304", answers(304, ""), nil, 304, no, "redirects"},
		{"101", afterRequest(
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), nil,
			101, no, "another protocol"},
		{"200 with HTML", answers(200, "<html>"), nil, 200, no,
			"the answer is not a lock: it is not JSON"},
		{"200 empty", answers(200, ""), nil, 200, no, "the answer is not a lock: it is empty"},
		{"204", answers(204, ""), nil, 204, no, "empty"},
		{"200 with another lock", answers(200, strings.Replace(testLock, "950d", "950e", 1)), nil,
			200, no, "another lock"},
		{"200 with an error", answers(200, goneBody), nil, 200, no,
			"its id is not a UUID: missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, tt.url(t), tt.opts...)
			// Neither of the two is repeated, but for this they are alike.
			_, err := c.AddToExpiry(t.Context(), testID, time.Second)
			require.Error(t, err)
			require.ErrorContains(t, err, tt.says)
			require.True(t, strings.HasPrefix(err.Error(),
				"relukko: add to expiry of lock "+testID+": "), err.Error())
			e, ok := errors.AsType[*Error](err)
			require.Equal(t, tt.status != 0, ok)
			if ok {
				require.Equal(t, tt.status, e.Status)
				require.False(t, e.MaybeDone)
				require.True(t, e.Own || tt.want&(gone|refused) == 0)
			}
			got := no
			for flag, is := range map[int]bool{
				transient: Transient(err), notSent: NoEffect(err), gone: errors.Is(err, ErrGone),
				held:    errors.Is(err, ErrHeld),
				refused: errors.Is(err, ErrRefused), canceled: errors.Is(err, context.Canceled) ||
					errors.Is(err, context.DeadlineExceeded),
			} {
				if is {
					got |= flag
				}
			}
			require.Equal(t, tt.want, got, "%v", err)
		})
	}
}

// dialing connects by dial. What it has under way in the end is ended.
func dialing(t *testing.T, dial func(context.Context) (net.Conn, error)) *http.Client {
	transport := new(http.Transport)
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dial(ctx)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestGoneIsSaidOnlyOfALock(t *testing.T) {
	c := client(t, serve(t, answer(404, goneBody)))
	_, err := c.Create(t.Context(), testName, "")
	require.NotErrorIs(t, err, ErrGone)
	_, err = c.List(t.Context())
	require.NotErrorIs(t, err, ErrGone)
	_, err = c.Get(t.Context(), testID)
	require.ErrorIs(t, err, ErrGone)
}

func TestHolderIsTold(t *testing.T) {
	body := `{"status":409,"message":"held","lock":` + testLock + `}`
	c := client(t, serve(t, answer(409, body)))
	_, err := c.Create(t.Context(), testName, "me")
	e, ok := errors.AsType[*Error](err)
	require.True(t, ok)
	holder := theLock()
	require.Equal(t, &holder, e.Holder)
	require.EqualError(t, err, `relukko: create lock "robot-arm-1": 409 Conflict: held`)

	c = client(t, serve(t, answer(409, strings.Replace(body, testID, "nobody", 1))))
	_, err = c.Create(t.Context(), testName, "me")
	e, ok = errors.AsType[*Error](err)
	require.True(t, ok)
	require.Nil(t, e.Holder, "what is not a lock holds nothing")
}

// A delete whose earlier attempt may have been carried out says so.
func TestMaybeDone(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	tests := []struct {
		name      string
		attempts  []http.HandlerFunc
		maybeDone bool
	}{
		{"at once", []http.HandlerFunc{answer(404, goneBody)}, false},
		{"after an answer that was lost", []http.HandlerFunc{cut, answer(404, goneBody)}, true},
		{"after two", []http.HandlerFunc{cut, cut, answer(404, goneBody)}, true},
		{"after a 500", []http.HandlerFunc{answer(500, ""), answer(404, goneBody)}, true},
		{"after a 503", []http.HandlerFunc{answer(503, ""), answer(404, goneBody)}, true},
		{"after a 429", []http.HandlerFunc{answer(429, ""), answer(404, goneBody)}, false},
		{"after a 500 and a 429", []http.HandlerFunc{answer(500, ""), answer(429, ""),
			answer(403, "")}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var n atomic.Int32
			c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				tt.attempts[n.Add(1)-1](w, r)
			}))
			_, err := c.Delete(t.Context(), testID)
			e, ok := errors.AsType[*Error](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, tt.maybeDone, e.MaybeDone)
			require.Equal(t, !tt.maybeDone, NoEffect(err))
			require.EqualValues(t, len(tt.attempts), n.Load())
		})
	}
}

// The end of the caller's context is no failure of the backend's.
func TestEndOfContext(t *testing.T) {
	because := errors.New("the operator went home")
	arrived := make(chan struct{}, 1)
	slow := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	drip := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.(http.Flusher).Flush()
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	dialling := WithHTTPClient(dialing(t, func(ctx context.Context) (net.Conn, error) {
		arrived <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	tests := []struct {
		name    string
		url     string
		opts    []Option
		notSent bool
	}{
		{"before the answer", slow, nil, false},
		{"within the answer", drip, nil, false},
		{"while dialing", "http://backend", []Option{dialling}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, tt.url, tt.opts...)
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-arrived
				cancel(because)
			}()
			_, err := c.Create(ctx, testName, "")
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, because)
			require.False(t, Transient(err))
			require.Equal(t, tt.notSent, NoEffect(err), "%v", err)

			_, err = c.Create(ctx, testName, "")
			require.ErrorIs(t, err, because)
			require.True(t, NoEffect(err), "nothing is sent with a context that is over")
		})
	}
}

func TestErrorsOfNothing(t *testing.T) {
	require.False(t, Transient(nil))
	require.False(t, NoEffect(nil))
	require.False(t, Transient(io.EOF))
	require.False(t, NoEffect(io.EOF))
	wrapped := fmt.Errorf("root: %w", &Error{Op: "x", Status: 503})
	require.True(t, Transient(wrapped))
	require.False(t, NoEffect(wrapped))
	require.EqualError(t, &Error{Op: "x", Status: 599}, "relukko: x: 599")
}

// What a backend says is printed on one line, shortened, without control characters.
func TestMessagesAreHarmless(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"terminal", "red \x1b[31malert\x07\r\n\tdone\u202eevil", "red [31malert done evil"},
		{"not UTF-8", "caf\xe9 au lait", "caf\uFFFD au lait"},
		{"long", strings.Repeat("a", 1000), strings.Repeat("a", 253) + "…"},
		{"long runes", strings.Repeat("ä", 1000), strings.Repeat("ä", 126) + "…"},
		{"JSON", `{"status":500,"message":"a\u0000b\nc"}`, "a b c"},
		{"space", "  \n ", ""},
		{"too much", strings.Repeat("b", 1<<20), strings.Repeat("b", 253) + "…"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, serve(t, answer(418, tt.body)))
			_, err := c.List(t.Context())
			e, ok := errors.AsType[*Error](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, tt.want, e.Message)
			require.LessOrEqual(t, len(e.Message), maxMessage)
		})
	}
}

// repeating is a RoundTripper that repeats a request whose answer was lost, as
// some do by themselves.
type repeating struct{ next http.RoundTripper }

func (r repeating) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	if err != nil && req.Context().Err() == nil {
		if req.GetBody != nil {
			req.Body, _ = req.GetBody()
		}
		resp, err = r.next.RoundTrip(req)
	}
	return resp, err
}

// CloseIdleConnections is what http.Client looks for.
func (r repeating) CloseIdleConnections() { r.next.(*http.Transport).CloseIdleConnections() }

// A request that something on its way may have repeated may have been carried
// out, whatever its last answer says.
func TestRequestsThatWereRepeated(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	traced := repeating{&http.Transport{DisableKeepAlives: true}}
	held := answer(409, `{"status":409,"message":"held"}`)
	for _, c := range []struct {
		name      string
		transport http.RoundTripper
		first     http.HandlerFunc // nil: none
		maybeDone bool
	}{
		{"by a wrapper", traced, cut, true},
		{"not by a wrapper", traced, nil, false},
		{"unseen", untraced(traced), nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			through := WithHTTPClient(&http.Client{Transport: c.transport})
			url := func(last http.HandlerFunc) string {
				s := &script{handlers: []http.HandlerFunc{last}}
				if c.first != nil {
					s.handlers = []http.HandlerFunc{c.first, last}
				}
				return serve(t, s.serve)
			}
			_, err := client(t, url(answer(404, goneBody)), through).Delete(t.Context(), testID)
			require.ErrorIs(t, err, ErrGone)
			e, _ := errors.AsType[*Error](err)
			require.Equal(t, c.maybeDone, e.MaybeDone)
			require.Equal(t, !c.maybeDone, NoEffect(err))

			_, err = client(t, url(held), through).Create(t.Context(), testName, "")
			require.ErrorIs(t, err, ErrHeld)
			require.Equal(t, !c.maybeDone, NoEffect(err))

			_, err = client(t, "http://127.0.0.1:1", through).Create(t.Context(), testName, "")
			require.True(t, Transient(err))
			require.Equal(t, c.transport == traced, NoEffect(err))
			_, err = client(t, "http://127.0.0.1:1", through).Create(t.Context(), "", "")
			require.True(t, NoEffect(err), "nothing was handed to it")
		})
	}
}

// untraced is a RoundTripper that tells of no connections.
type untraced struct{ next http.RoundTripper }

func (u untraced) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(context.Background())
	context.AfterFunc(req.Context(), cancel)
	return u.next.RoundTrip(req.WithContext(ctx))
}

// dyingConn is a connection whose writes fail once it is dead.
type dyingConn struct {
	net.Conn
	dead atomic.Bool
}

func (c *dyingConn) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return 0, syscall.ECONNRESET
	}
	return c.Conn.Write(p)
}

// net/http itself repeats a request that could not be written to a kept connection. The first one
// cannot have been carried out, but of a transport that was given that is not known.
func TestARequestThatWasNotWrittenIsNotCarriedOut(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprint("own ", own), func(t *testing.T) {
			var opts []Option
			if !own {
				opts = append(opts, WithHTTPClient(&http.Client{Transport: &http.Transport{}}))
			}
			c := client(t, serve(t, answer(404, goneBody)), opts...)
			var conns []*dyingConn
			transport := c.transport().client.Transport.(*http.Transport)
			t.Cleanup(transport.CloseIdleConnections)
			transport.DialContext = func(ctx context.Context, network, address string) (
				net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				conns = append(conns, &dyingConn{Conn: conn})
				return conns[len(conns)-1], err
			}
			_, err := c.Get(t.Context(), testID)
			require.ErrorIs(t, err, ErrGone)
			conns[0].dead.Store(true)
			_, err = c.Delete(t.Context(), testID)
			require.Len(t, conns, 2)
			require.ErrorIs(t, err, ErrGone)
			e, _ := errors.AsType[*Error](err)
			require.Equal(t, !own, e.MaybeDone)
			require.Equal(t, own, NoEffect(err))
		})
	}
}
