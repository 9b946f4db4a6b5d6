package server_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// TestOtherSites: no request of a page of another origin changes anything, whatever cookie the
// browser sends with it, and none opens a WebSocket. The ports of one host are other origins.
func TestOtherSites(t *testing.T) {
	b := start(t, server.WithKeys(someKeys...), aPage)
	held := b.create("arm", "me")
	for name, header := range map[string]http.Header{
		"another site":        {"Sec-Fetch-Site": {"cross-site"}},
		"another port":        {"Sec-Fetch-Site": {"same-site"}},
		"without Sec-Fetch":   {"Sec-Fetch-Site": nil, "Origin": {"https://evil.example"}},
		"origin with port":    {"Sec-Fetch-Site": nil, "Origin": {"http://relukko.test:8080"}},
		"origin without port": {"Sec-Fetch-Site": nil, "Origin": {"http://relukko.test"}},
		"a sandboxed frame":   {"Sec-Fetch-Site": nil, "Origin": {"null"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := b.browser().signIn("root admin")
			root.header = header
			for path, body := range map[string]string{
				"/page/break":   fmt.Sprintf(`{"id":%q,"reason":"evil"}`, held.ID),
				"/page/release": fmt.Sprintf(`{"id":%q}`, held.ID),
				"/page/service": `{"name":"bench"}`,
				"/sign-in":      "key=root+admin", "/sign-in/link": "token=x", "/sign-out": "x=y",
			} {
				r := root.post(403, path, body)
				require.Contains(t, r.body, "a page of another site")
				require.Empty(t, r.header.Values("Set-Cookie"))
			}
			root.header = http.Header{}
			root.get(200, "/")
			if origin := header.Get("Origin"); origin != "" {
				root.header.Set("Origin", origin)
				_, resp, err := root.dialLive("/page/live")
				require.Error(t, err)
				require.Equal(t, 403, resp.StatusCode)
			}
		})
	}
	require.Len(t, b.locks(), 1)
}

// What a browser without Sec-Fetch-Site sends, as on http of another machine than its own, passes.
func TestTheOwnOrigin(t *testing.T) {
	b := start(t, server.WithKeys(someKeys...), aPage)
	root := b.browser()
	root.header = http.Header{"Sec-Fetch-Site": nil, "Origin": {"http://relukko.test:3000"}}
	root.signIn("root admin").post(200, "/page/service", `{"name":"bench"}`)
	nextFrame(t, root.live("/page/live"))
}

// TestHosts: over the loopback interface a name of another site gains nothing, even where everybody
// may read.
func TestHosts(t *testing.T) {
	own, err := os.Hostname()
	require.NoError(t, err)
	for _, row := range []struct {
		host   string
		status int
		opts   []server.Option
	}{
		{"evil.example", 403, nil}, {"evil.example:PORT", 403, nil},
		{"localhost.evil.example", 403, nil}, {"127.0.0.1.evil.example:PORT", 403, nil},
		{"192.0.2.7:PORT", 403, nil}, {"[2001:db8::1]:PORT", 403, nil}, {"0.0.0.0:PORT", 403, nil},
		{"localhost:PORT", 200, nil}, {"LOCALHOST.:PORT", 200, nil}, {"localhost", 200, nil},
		{"relukko.localhost:PORT", 200, nil}, {"127.0.0.1:PORT", 200, nil},
		{"127.1.2.3:PORT", 200, nil}, {"[::1]:PORT", 200, nil}, {own + ":PORT", 200, nil},
		{"relukko.example", 200, []server.Option{
			server.WithTrustedProxies(netip.MustParsePrefix("127.0.0.0/8"))}},
	} {
		t.Run(row.host, func(t *testing.T) {
			opts := append(row.opts, server.WithPage(server.Page{PublicView: true}))
			srv := server.New(memstore.New(), opts...)
			ts := httptest.NewServer(srv)
			defer ts.Close()
			defer func() { require.NoError(t, srv.Shutdown(t.Context())) }()
			_, port, _ := strings.Cut(ts.Listener.Addr().String(), ":")
			host := strings.ReplaceAll(row.host, "PORT", port)
			for _, path := range []string{"/", "/lock?name=x", "/page/lock?name=x", "/sign-in"} {
				req, err := http.NewRequest("GET", ts.URL+path, nil)
				require.NoError(t, err)
				req.Host = host
				resp, err := ts.Client().Do(req)
				require.NoError(t, err)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				resp.Body.Close()
				require.Equal(t, row.status, resp.StatusCode, "%s", body)
			}
			conn, resp, err := websocket.Dial(t.Context(), ts.URL+"/page/live",
				&websocket.DialOptions{
					Host: host, HTTPHeader: http.Header{"Origin": {"http://" + host}},
				})
			if row.status == 403 {
				require.Error(t, err)
				require.Equal(t, 403, resp.StatusCode)
				return
			}
			require.NoError(t, err)
			conn.CloseNow()
		})
	}
}

// TestCookie: it has the port in its name, is for the server alone, and counts for no other port.
func TestCookie(t *testing.T) {
	b := start(t, aPage, server.WithTrustedProxies(netip.MustParsePrefix("192.0.2.0/24")))
	root := b.browser()
	r := root.post(303, "/sign-in", url.Values{"key": {apiKey}, "next": {"/?q=arm"}}.Encode())
	require.Equal(t, "/?q=arm", r.header.Get("Location"))
	require.Regexp(t, `^relukko-3000=[\w-]{43}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict$`,
		r.header.Get("Set-Cookie"))
	root.header.Set("X-Forwarded-Proto", "https") // of the trusted proxy
	r = root.post(303, "/sign-in", url.Values{"key": {apiKey}}.Encode())
	require.Contains(t, r.header.Get("Set-Cookie"), "; Secure")
	require.Contains(t, root.get(200, "/").body, `data-base="https://relukko.test:3000"`)
	require.NotContains(t, root.get(200, "/").body, apiKey)

	root.cookies = map[string]string{"relukko-3001": root.cookies["relukko-3000"]}
	root.get(303, "/")

	other := start(t, aPage).browser().signIn(apiKey) // without a trusted proxy
	other.header.Set("X-Forwarded-Proto", "https")
	r = other.post(303, "/sign-in", url.Values{"key": {apiKey}}.Encode())
	require.NotContains(t, r.header.Get("Set-Cookie"), "Secure")
}

// TestCookieOverTLS is sent over TLS alone.
func TestCookieOverTLS(t *testing.T) {
	srv := server.New(memstore.New(), server.WithAPIKeys(apiKey), aPage)
	ts := httptest.NewTLSServer(srv)
	defer ts.Close()
	defer func() { require.NoError(t, srv.Shutdown(t.Context())) }()
	client := ts.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}
	resp, err := client.PostForm(ts.URL+"/sign-in", url.Values{"key": {apiKey}})
	require.NoError(t, err)
	resp.Body.Close()
	require.Contains(t, resp.Header.Get("Set-Cookie"), "; Secure; SameSite=Strict")
}

// TestEverySignInIsANewSession: a cookie that was there before is worth nothing, nor is one of a
// session that ended.
func TestEverySignInIsANewSession(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...), aPage)
		root := b.browser()
		root.cookies["relukko-3000"] = strings.Repeat("A", 43)
		root.signIn("root admin")
		first := root.cookies["relukko-3000"]
		require.NotEqual(t, strings.Repeat("A", 43), first)
		conn := root.live("/page/live")
		nextFrame(t, conn)
		root.signIn("ada user")
		require.True(t, nextFrame(t, conn).SignedOut, "the page of the first session")
		thief := b.browser()
		thief.cookies["relukko-3000"] = first
		thief.get(303, "/")
		require.Contains(t, root.get(200, "/").body, `data-user="ada" data-role="user"`)

		conn = root.live("/page/live")
		nextFrame(t, conn)
		second := root.cookies["relukko-3000"]
		root.post(303, "/sign-out", "x=y")
		require.True(t, nextFrame(t, conn).SignedOut)
		require.Empty(t, root.cookies)
		thief.cookies["relukko-3000"] = second
		thief.get(303, "/")
		require.Contains(t, thief.post(401, "/page/service", `{"name":"x"}`).body, "not signed in")
	})
}

// Where everybody may read, one who signs out goes on reading, and is told to have no key any more.
func TestSigningOutOfThePublicView(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithPage(server.Page{PublicView: true}))
		b.create("arm", "")
		root := b.browser().signIn(apiKey)
		conn := root.live("/page/live")
		require.Equal(t, "admin", nextFrame(t, conn).Role)
		root.post(303, "/sign-out", "x=y")
		f := nextFrame(t, conn)
		require.True(t, f.Full)
		require.Equal(t, " viewer", f.User+" "+f.Role)
		require.Equal(t, "sign in to do this", f.Locks[0].May["break"])
	})
}

// TestSessionsEnd after 12 h, with the key, and with its rights: also on an open page.
func TestSessionsEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...), aPage)
		root, ops := b.browser().signIn("root admin"), b.browser()
		ops.post(303, "/sign-in", "user=ops&password=a+good+password")
		made := b.create("arm", "")
		conn := root.live("/page/live")
		require.Empty(t, nextFrame(t, conn).Locks[0].May["break"])

		b.srv.SetKeys(namedKey("root", access.Admin, "bench-*"), access.Key{Name: "root",
			Role: access.Viewer, Hash: namedKey("root", access.Admin).Hash})
		f := nextFrame(t, conn)
		require.Equal(t, "your key may only read", f.Locks[0].May["break"])
		require.Equal(t, "viewer", f.Role, "so the page loads itself anew")
		root.post(403, "/page/break", fmt.Sprintf(`{"id":%q,"reason":"x"}`, made.ID))
		b.srv.SetKeys(namedKey("root", access.Admin, "bench-*"))
		require.True(t, nextFrame(t, conn).SignedOut)
		root.get(303, "/")
		ops.get(200, "/") // the password is no key of the file

		time.Sleep(12*time.Hour - time.Second)
		ops.get(200, "/")
		conn = ops.live("/page/live")
		f = nextFrame(t, conn)
		require.True(t, nextFrame(t, conn).SignedOut)
		ops.get(303, "/")
	})
}

// Guessing a password is slowed down by address; a right one is then refused too.
func TestPasswordsAreNotGuessed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, aPage)
		ops := b.browser()
		for i := range 20 {
			body := []string{"user=ops&password=guess", "user=oops&password=a+good+password",
				"user=ops&password=", "key=guess", "user=&password=a+good+password"}[i%5]
			require.Contains(t, ops.post(403, "/sign-in", body).body, "not right")
		}
		r := ops.post(429, "/sign-in", "user=ops&password=a+good+password")
		require.Equal(t, "60", r.header.Get("Retry-After"))
		require.Empty(t, ops.cookies)
		ops.signIn(apiKey) // a key cannot be guessed
		ops.post(303, "/sign-out", "x=y")
		time.Sleep(time.Minute)
		ops.post(303, "/sign-in", "user=ops&password=a+good+password")
		ops.get(200, "/")
	})
}

// Without a user and a password nothing signs in by them.
func TestNoPassword(t *testing.T) {
	for _, page := range []server.Page{{}, {User: "ops"}, {Password: "x"}} {
		b := start(t, server.WithPage(page))
		for _, form := range []string{"user=&password=", "user=ops&password=", "user=x&password=x",
			"user=&password=x", "key=", "x=y"} {
			b.browser().post(403, "/sign-in", form)
		}
		require.NotContains(t, b.browser().get(200, "/sign-in").body, `name="password"`)
	}
}

// TestTheLink signs in once, within 5 min, as an admin. Looking at it does not use it up.
func TestTheLink(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithPage(server.Page{}))
		link := b.srv.SignInLink()
		token := strings.TrimPrefix(link, "/sign-in/link?token=")
		for range 3 {
			require.Contains(t, b.browser().get(200, link).body, token)
		}
		root := b.browser()
		root.post(303, "/sign-in/link", "token="+token)
		require.Contains(t, root.get(200, "/").body, `data-user="default" data-role="admin"`)
		root.post(200, "/page/service", `{"name":"arm"}`)
		b.browser().get(403, link)
		b.browser().post(403, "/sign-in/link", "token="+token)
		b.browser().post(403, "/sign-in/link", "token=")

		link = b.srv.SignInLink()
		time.Sleep(5 * time.Minute)
		r := b.browser().post(403, "/sign-in/link", strings.TrimPrefix(link, "/sign-in/link?"))
		require.Contains(t, r.body, "5 minutes are over")
	})
	require.Empty(t, start(t).srv.SignInLink(), "without a page")
}

// Signing in goes on to one of the two pages, never to another site.
func TestGoingOn(t *testing.T) {
	b := start(t, aPage)
	for next, want := range map[string]string{
		"/lock?name=a%26b": "/lock?name=a%26b", "/?q=arm&sort=name": "/?q=arm&sort=name", "": "/",
		"//evil.example/": "/", "https://evil.example/": "/", `/\evil.example`: "/",
		`\\evil.example`: "/", "/%2f/evil.example": "/", "/..//evil.example": "/",
		"evil.example": "/", "javascript:alert(1)": "/", "/\tevil": "/", "http:/x": "/",
		"///evil.example": "/", "/%5cevil.example": "/", "/sign-out": "/", "/v1/locks/": "/",
	} {
		form := url.Values{"key": {apiKey}, "next": {next}}.Encode()
		r := b.browser().post(303, "/sign-in", form)
		require.Equal(t, want, r.header.Get("Location"), next)
	}
	r := b.browser().get(303, "/lock?name=a%20b")
	require.Equal(t, "/sign-in?next=%2Flock%3Fname%3Da%2520b", r.header.Get("Location"))
	require.Contains(t, b.browser().get(200, r.header.Get("Location")).body,
		`name="next" value="/lock?name=a%20b"`)
}

// A click on another site brings no cookie: the page asks for itself once more before the form.
func TestAClickOnAnotherSite(t *testing.T) {
	b := start(t, aPage)
	root := b.browser()
	const form = "/sign-in?next=%2Flock%3Fname%3Da"
	for _, site := range []string{"cross-site", ""} {
		root.header = http.Header{"Accept": {"text/html,*/*"}, "Sec-Fetch-Site": {site}}
		r := root.get(401, "/lock?name=a")
		require.Equal(t, "0; url="+form, r.header.Get("Refresh"))
		require.Contains(t, r.body, "not signed in")
	}
	for _, site := range []string{"same-origin", "same-site", "none"} {
		root.header.Set("Sec-Fetch-Site", site)
		require.Equal(t, form, root.get(303, "/lock?name=a").header.Get("Location"))
	}
	root.signIn(apiKey)
	require.Equal(t, "/lock?name=a", root.get(303, form).header.Get("Location"))
}

// TestHeadersOfThePage are on every response of the page.
func TestHeadersOfThePage(t *testing.T) {
	b := start(t, aPage)
	root := b.browser().signIn(apiKey)
	paths := []string{"/", "/lock?name=x", "/lock", "/sign-in", "/page/lock?name=x", "/static/x",
		"/page/nothing", "/sign-in/link", "/page/break"}
	for _, path := range paths {
		h := root.ask("GET", path, "").header
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'self'; ", path)
		require.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors 'none'")
		require.NotContains(t, h.Get("Content-Security-Policy"), "unsafe")
		require.Equal(t, "nosniff DENY same-origin no-store", strings.Join([]string{
			h.Get("X-Content-Type-Options"), h.Get("X-Frame-Options"), h.Get("Referrer-Policy"),
			h.Get("Cache-Control")}, " "), path)
	}
	for _, path := range []string{"/", "/lock?name=x", "/sign-in"} {
		body := b.browser().signIn(apiKey).ask("GET", path, "").body
		require.NotRegexp(t, `(?i)<script(>| [^>]*[^"]>)[^<]|style=| on[a-z]+=|javascript:`, body,
			"nothing that the policy would refuse")
	}
}

// TestStrangersText is escaped wherever it is shown.
func TestStrangersText(t *testing.T) {
	b := start(t, aPage)
	evil := `"><script>alert(1)</script>`
	b.create(evil, "me (javascript:alert(1) https://ops@evil.example/ "+evil+")")
	root := b.browser().signIn(apiKey)
	for _, path := range []string{"/lock?name=", "/sign-in/link?token=", "/page/lock?name=",
		"/sign-in?next=/"} {
		r := root.ask("GET", path+url.QueryEscape(evil), "")
		require.NotContains(t, r.body, "<script>alert", path)
		require.NotContains(t, r.header.Get("Location"), "<")
	}
	row := root.row(evil)
	require.Equal(t, "me", row.Holder)
	require.Empty(t, row.Link, "neither a script nor a host with a user before it")
	conn := root.live("/page/live")
	require.NotContains(t, next(t, conn), "<script")
}

// TestStaticFiles are kept for ever under their hash, and compressed.
func TestStaticFiles(t *testing.T) {
	b := start(t, aPage)
	eve := b.browser()
	page := eve.get(200, "/sign-in").body
	style := regexp.MustCompile(`/static/([0-9a-f]{16})/style\.css`).FindStringSubmatch(page)
	require.NotNil(t, style, page)
	r := eve.get(200, style[0])
	require.Equal(t, "public, max-age=31536000, immutable", r.header.Get("Cache-Control"))
	require.Equal(t, "text/css; charset=utf-8", r.header.Get("Content-Type"))
	old := eve.get(200, "/static/0123456789abcdef/style.css")
	require.Equal(t, r.body, old.body, "of a page that was open during an update")
	require.Equal(t, "no-store", old.header.Get("Cache-Control"))
	eve.header.Set("Accept-Encoding", "br, gzip")
	zipped := eve.get(200, style[0])
	require.Equal(t, "gzip", zipped.header.Get("Content-Encoding"))
	reader, err := gzip.NewReader(strings.NewReader(zipped.body))
	require.NoError(t, err)
	body, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.Equal(t, r.body, string(body))
	for _, path := range []string{"/static/" + style[1] + "/../page.go", "/static/", "/static/x/",
		"/static/" + style[1] + "/%2e%2e/page.go", "/static/" + style[1] + "//style.css"} {
		eve.get(404, path)
	}
}

// Without the option there is no page.
func TestNoPage(t *testing.T) {
	b := start(t)
	for _, path := range []string{"/", "/lock?name=x", "/sign-in", "/page/lock", "/static/x"} {
		require.Contains(t, b.browser().get(404, path).body, `"path":`)
	}
}

// A page whose browser takes nothing holds nobody up, and is cut off.
func TestAPageThatTakesNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithPage(server.Page{PublicView: true}))
		deaf := b.browser().live("/page/live")
		for i := range 100 {
			b.create(fmt.Sprint("bench-", i), "")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		conn := b.browser().live("/page/live")
		require.Len(t, nextFrame(t, conn).Locks, 100)
		_, _, err := deaf.Read(t.Context())
		require.ErrorContains(t, err, "EOF")
	})
}

// At most 100 browsers are signed in with the keys of one name.
func TestManySessions(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...), aPage)
		ada := b.browser().signIn("ada user")
		var first, second *browser
		for i := range 101 {
			time.Sleep(time.Second)
			eve := b.browser().signIn("eve viewer")
			switch i {
			case 0:
				first = eve
			case 1:
				second = eve
			}
		}
		first.get(303, "/")
		second.get(200, "/")
		ada.get(200, "/")
	})
}
