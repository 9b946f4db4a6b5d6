package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/settings"
)

func TestBaseURL(t *testing.T) {
	good := []struct{ in, base, path string }{
		{"http://localhost:3000", "http://localhost:3000", "/v1/locks/"},
		{"http://localhost:3000/", "http://localhost:3000", "/v1/locks/"},
		{"https://ci.example/relukko", "https://ci.example/relukko", "/relukko/v1/locks/"},
		{"https://ci.example/relukko//", "https://ci.example/relukko", "/relukko/v1/locks/"},
		{"HTTP://h/a/b/", "http://h/a/b", "/a/b/v1/locks/"},
		{"http://[::1]:80/", "http://[::1]:80", "/v1/locks/"},
		{"http://h/a%2Fb/", "http://h/a%2Fb", "/a%2Fb/v1/locks/"},
		{"http://h/a%2Fb%2F/", "http://h/a%2Fb%2F", "/a%2Fb%2F/v1/locks/"},
		{"http://h/ä b", "http://h/%C3%A4%20b", "/%C3%A4%20b/v1/locks/"},
		{"http://user:hunter2@h/x", "http://h/x", "/x/v1/locks/"},
		{"unix:///run/relukko.sock", "unix:///run/relukko.sock", "/v1/locks/"},
		{"unix:/run//a/../ä @b.sock", "unix:///run/ä @b.sock", "/v1/locks/"},
	}
	for _, tt := range good {
		c, err := New(tt.in, testKey)
		require.NoError(t, err, tt.in)
		require.Equal(t, tt.base, c.BaseURL())
		require.Equal(t, tt.path, withPath(c.transport().base, "/v1/locks/").RequestURI())
		require.NoError(t, c.Shutdown(t.Context()))
	}
	bad := []struct{ in, says string }{
		{"", "begin with http"},
		{"localhost:3000", `"localhost:3000": it must begin with http://, https:// or unix://`},
		{"127.0.0.1:3000", `"127.0.0.1:3000": it must begin with http://`},
		{"ftp://h", "begin with http"},
		{"//h", "begin with http"},
		{"http://", "no host"},
		{"http:///path", "no host"},
		{"http://:3000", "no host"},
		{"http:h", "no host"},
		{"http://h?a=b", "neither query nor fragment"},
		{"http://h?", "neither query nor fragment"},
		{"http://h#a", "neither query nor fragment"},
		{"http://h#", "neither query nor fragment"},
		{"http://h:0", "no such port"},
		{"http://h:65536", "no such port"},
		{"http://h:x", "invalid port"},
		{"http://h\n", "control character"},
		{"http://h\x1b[31m:x", "invalid"},
		{"http://user:hunter2@h:x", "cannot be parsed"},
		{"http://user:hunter2@", "no host"},
		{"user:hunter2@h", "begin with http"},
		{"http://user:hunter2/@h", "base URL"},
		{"http://user:2/hunter2@h", "base URL"},
		{"http://user:hunter2 @h", "base URL"},
		{"http://user:hunter2@h?x", "neither"},
		{"unix://", "the whole path"},
		{"unix:relukko.sock", "the whole path of the socket must follow unix://"},
		{"unix://localhost/run/relukko.sock", "the whole path"},
		{"unix://user:hunter2@/run/relukko.sock", "the whole path"},
		{"unix:///run/relukko.sock/", "nothing may follow the name of the socket"},
		{"unix:///run/relukko.sock?a=b", "none of ? # %"},
		{"unix:///run/relukko%2Esock", "none of ? # %"},
		{"unix:///run/relukko.sock\x1b[31m", "control character"},
		{"unix:///" + strings.Repeat("x", 200), "must not be longer"},
	}
	for _, tt := range bad {
		_, err := New(tt.in, testKey)
		require.ErrorContains(t, err, tt.says, tt.in)
		require.True(t, strings.HasPrefix(err.Error(), "relukko: base URL "), err.Error())
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Error(), "\x1b")
	}
}

func TestAPIKey(t *testing.T) {
	for _, key := range []string{"s3cret\n", "s3cret\r\nX: y", " s3cret", "s3cret ", "s3c\x00ret",
		"s3c\tret", "s3cret\x7f", "\u00a0s3cret"} {
		_, err := New("http://h", key)
		require.ErrorContains(t, err, "relukko: API key: it ", "%q", key)
		require.NotContains(t, err.Error(), "s3c")
	}
	var got atomic.Value
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Clone())
		answer(200, "[]")(w, r)
	})
	for _, key := range []string{"somekey", "with inner  space", "schlüssel", ""} {
		c, err := New(u, key)
		require.NoError(t, err)
		_, err = c.List(t.Context())
		require.NoError(t, err)
		h := got.Load().(http.Header)
		if key == "" {
			require.NotContains(t, h, "X-Api-Key")
		} else {
			require.Equal(t, []string{key}, h["X-Api-Key"])
		}
		require.NoError(t, c.Health(t.Context()))
		require.NotContains(t, got.Load().(http.Header), "X-Api-Key", "health needs no key")
		require.NoError(t, c.Shutdown(t.Context()))
	}
}

func TestUserInfoIsBasicAuthentication(t *testing.T) {
	var user, password atomic.Value
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		name, pw, _ := r.BasicAuth()
		user.Store(name)
		password.Store(pw)
		answer(200, "[]")(w, r)
	})
	for _, opts := range [][]Option{nil,
		{WithHTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}})}} {
		c := client(t, strings.Replace(u, "http://", "http://ci:p%2Fw@", 1), opts...)
		_, err := c.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, "ci", user.Load())
		require.Equal(t, "p/w", password.Load())
		require.Equal(t, u, c.BaseURL())
	}
}

// However a Client is printed, and whatever fails, the key and the password do not show.
func TestTheKeyStaysSecret(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	hidden := func(t *testing.T, s string) {
		t.Helper()
		require.NotContains(t, s, testKey)
		require.NotContains(t, s, "hunter2")
		require.NotContains(t, s, base64.StdEncoding.EncodeToString([]byte("ci:hunter2")))
	}
	withUser := func(u string) string {
		return strings.Replace(u, "http://", "http://ci:hunter2@", 1)
	}

	t.Run("printed", func(t *testing.T) {
		c := client(t, withUser(serve(t, answer(200, "[]"))), WithLogger(logger))
		_, err := c.List(t.Context())
		require.NoError(t, err)
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%T", "%p"} {
			hidden(t, fmt.Sprintf(format, c))
			hidden(t, fmt.Sprintf(format, struct{ C any }{c}))
		}
		require.Equal(t, "relukko client of "+c.BaseURL(), fmt.Sprintf("%+v", c))
		require.Equal(t, "relukko client of "+c.BaseURL(), fmt.Sprintf("%#v", c))
		text, err := json.Marshal(struct{ C any }{c})
		require.NoError(t, err)
		hidden(t, string(text))
		logger.Info("client", "client", c)
		hidden(t, assertDiff(c))
	})
	t.Run("sent back", func(t *testing.T) {
		basic := base64.StdEncoding.EncodeToString([]byte("ci:hunter2"))
		echo := fmt.Sprintf("you sent %s and %s, %s", testKey, "hunter2", basic)
		for _, h := range []http.HandlerFunc{
			answer(403, echo),
			answer(403, fmt.Sprintf(`{"status":403,"message":%q}`, echo)),
			answer(200, echo),
			answer(200, strings.Replace(testLock, "2024-10-31T20:14:43.9313Z", testKey, 1)),
			answer(200, strings.Replace(testLock, testID, testKey, 1)),
			answer(307, "", "Location", "http://x/"+testKey),
			func(w http.ResponseWriter, _ *http.Request) {
				conn, buf, _ := w.(http.Hijacker).Hijack()
				defer conn.Close()
				fmt.Fprintf(buf, "%s %s\r\n", testKey, "hunter2")
				buf.Flush()
			},
		} {
			c := client(t, withUser(serve(t, h)), WithLogger(logger))
			_, err := c.AddToExpiry(t.Context(), testID, 0)
			require.Error(t, err)
			for ; err != nil; err = errors.Unwrap(err) {
				hidden(t, err.Error())
				hidden(t, fmt.Sprintf("%+v %#v", err, err))
			}
		}
	})
	t.Run("nothing there", func(t *testing.T) {
		c := client(t, "http://ci:hunter2@127.0.0.1:1/", WithLogger(logger))
		_, err := c.Create(t.Context(), testName, "")
		require.Error(t, err)
		hidden(t, fmt.Sprintf("%v %+v %#v", err, err, err))
	})
	hidden(t, log.String())
}

// assertDiff prints two values as testify does: by reflection, methods or not.
func assertDiff(c *Client) string {
	var out collector
	assert.Equal(&out, c, &Client{})
	return string(out)
}

type collector []byte

func (c *collector) Errorf(format string, args ...any) { *c = fmt.Appendf(*c, format, args...) }

func TestRedirectsAreNotFollowed(t *testing.T) {
	var others atomic.Int32
	other := serve(t, func(http.ResponseWriter, *http.Request) { others.Add(1) })
	here := serve(t, answer(307, "", "Location", other+"/v1/locks/"))
	follow := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return nil },
	}
	for _, opts := range [][]Option{nil, {WithHTTPClient(follow)}} {
		c := client(t, here, opts...)
		_, err := c.Create(t.Context(), testName, "")
		e, ok := errors.AsType[*Error](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, 307, e.Status)
		require.ErrorContains(t, err, other+"/v1/locks/")
		require.Error(t, c.Health(t.Context()))
		w, err := c.Watch(t.Context())
		require.NoError(t, err)
		require.Equal(t, Event{Kind: EventDisconnected}, <-w.Events())
		w.Close()
	}
	require.Zero(t, others.Load())
	require.NoError(t, follow.CheckRedirect(nil, nil), "the client that was given stays as it was")
}

func TestFromEnv(t *testing.T) {
	clearEnv(t)
	t.Setenv(settings.APIKey, "")
	_, err := FromEnv()
	require.ErrorIs(t, err, ErrNoAPIKey)
	require.EqualError(t, err, "relukko: no API key: set RELUKKO_API_KEY or RELUKKO_API_KEY_FILE, "+
		"or store one with `relukko login`, or start `relukko serve` on this machine")

	t.Setenv(settings.APIKey, testKey)
	c, err := FromEnv()
	require.NoError(t, err)
	require.Equal(t, "http://localhost:3000", c.BaseURL())
	require.NoError(t, c.Shutdown(t.Context()))

	t.Setenv(settings.BaseURL, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-API-KEY") != testKey {
			w.WriteHeader(403)
			return
		}
		answer(200, "[]")(w, r)
	}))
	c, err = FromEnv()
	require.NoError(t, err)
	_, err = c.List(t.Context())
	require.NoError(t, err)
	require.NoError(t, c.Shutdown(t.Context()))

	t.Setenv(settings.BaseURL, "nonsense")
	_, err = FromEnv()
	require.EqualError(t, err,
		`relukko: RELUKKO_BASE_URL "nonsense": it must begin with http://, https:// or unix://`)

	t.Setenv(settings.BaseURL, "")
	t.Setenv(settings.APIKey, testKey+"\t!")
	_, err = FromEnv()
	require.ErrorContains(t, err, "relukko: RELUKKO_API_KEY: it has a control character")
	require.NotContains(t, err.Error(), testKey)
}

// RELUKKO_TRUST_ME_IT_IS_LOCKED: no request, one loud line, always the same lock.
func TestTrustMode(t *testing.T) {
	clearEnv(t)
	t.Setenv(settings.APIKey, "")
	t.Setenv(envTrust, "yes")
	t.Setenv("REQUESTS_CA_BUNDLE", "/nowhere")
	var log bytes.Buffer
	c, err := FromEnv(WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
		WithHTTPClient(&http.Client{Transport: forbidden{t}}))
	require.NoError(t, err)
	require.True(t, c.Trusted())
	const want = `{"id":"00000000-0000-0000-0000-000000000000","lock_name":"WE TRUST YOU",` +
		`"creator":"Dummy Dummy","ip":"0.0.0.0","expires_at":"1970-01-01T00:00:00Z",` +
		`"created_at":"1970-01-01T00:00:00Z","updated_at":"1970-01-01T00:00:00Z"}`
	same := func(l Lock, err error) {
		t.Helper()
		require.NoError(t, err)
		text, err := json.Marshal(l)
		require.NoError(t, err)
		require.Equal(t, want, string(text))
	}
	ctx := t.Context()
	same(c.Create(ctx, "x", "y", Wait(1)))
	same(c.Get(ctx, "not even an id"))
	same(c.Update(ctx, testID, Update{}))
	same(c.KeepAlive(ctx, testID, 0))
	same(c.AddToExpiry(ctx, testID, 0))
	same(c.Delete(ctx, testID))
	locks, err := c.List(ctx)
	require.Len(t, locks, 1)
	same(locks[0], err)
	require.NoError(t, c.Health(ctx))
	_, err = c.Watch(ctx)
	require.ErrorIs(t, err, ErrNoWatch)
	require.Zero(t, c.MaxWait())
	require.NoError(t, c.Shutdown(ctx))
	_, err = c.Get(ctx, testID)
	require.ErrorIs(t, err, ErrClosed)
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"))
	require.Equal(t, 1, strings.Count(log.String(), "\n"))

	before := slog.Default()
	defer slog.SetDefault(before)
	var byDefault bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&byDefault, nil)))
	c, err = New("http://h", "")
	require.NoError(t, err)
	require.NoError(t, c.Shutdown(ctx))
	require.Contains(t, byDefault.String(), "NOTHING IS LOCKED")
}

type forbidden struct{ t *testing.T }

func (f forbidden) RoundTrip(r *http.Request) (*http.Response, error) {
	f.t.Errorf("request %s %s", r.Method, r.URL)
	return nil, io.ErrUnexpectedEOF
}

// HTTP/2 has no WebSocket for us, and everything else.
func TestOverHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.ProtoMajor != 2:
			answer(400, "")(w, r)
		case r.Method == http.MethodPut:
			panic(http.ErrAbortHandler)
		default:
			answer(200, testLock)(w, r)
		}
	}))
	s.Config.ErrorLog = quiet
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	c := client(t, s.URL, WithHTTPClient(s.Client()))
	_, err := c.Create(t.Context(), testName, "")
	require.NoError(t, err)
	_, err = c.AddToExpiry(t.Context(), testID, 0)
	require.True(t, Transient(err), "%v", err)
	require.False(t, NoEffect(err))
	w, err := c.Watch(t.Context())
	require.NoError(t, err)
	require.Equal(t, disconnected, <-w.Events())
	w.Close()
}

// A round tripper and a cookie jar may write to what they are given.
func TestGivenClientsGetRequestsOfTheirOwn(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
		if r.Method == http.MethodGet {
			answer(200, "[]")(w, r)
			return
		}
		answer(200, testLock)(w, r)
	})
	scribble := scribbler{&http.Transport{DisableKeepAlives: true}}
	c := client(t, u, WithHTTPClient(&http.Client{Transport: scribble, Jar: jar{}}))
	done := make(chan error)
	for range 8 {
		go func() {
			_, err := c.List(context.Background())
			if err == nil {
				_, err = c.Create(context.Background(), testName, "", Wait(1))
			}
			done <- err
		}()
	}
	for range 8 {
		require.NoError(t, <-done)
	}
	require.NotContains(t, c.transport().keys.now.Load().plain, "Scribble")
	require.NotContains(t, c.transport().keys.now.Load().body, "Cookie")
	require.Empty(t, c.transport().locks.RawQuery)
}

type scribbler struct{ next http.RoundTripper }

func (s scribbler) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Scribble", "x")
	r.URL.RawQuery = "scribble"
	return s.next.RoundTrip(r)
}

type jar struct{}

func (jar) SetCookies(*url.URL, []*http.Cookie) {}
func (jar) Cookies(*url.URL) []*http.Cookie     { return []*http.Cookie{{Name: "a", Value: "b"}} }
