package browser

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
)

// TestTextsOfStrangersAreText has names, creators and reasons that are markup, scripts and links of
// scripts. A script that runs, or that the browser refuses, fails the test.
func TestTextsOfStrangersAreText(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const script = `<script>window.pwned = 1</script>`
	hostile := []string{
		script,
		`<img src=x onerror="window.pwned = 1">`,
		`"><svg onload="window.pwned = 1">`,
		`javascript:window.pwned=1`,
		`https://evil.example/" onmouseover="window.pwned=1`,
		"`+window.pwned+`${window.pwned=1}",
		`{{.User}} &lt;b&gt; </td></table>`,
	}
	for i, text := range hostile {
		s.lock(adaKey, fmt.Sprint(i, text), text+" ("+text+")", time.Hour)
	}
	b := s.visitor("")
	for i, text := range hostile {
		b.await("[...document.querySelectorAll('.c-name a')].some(e => e.innerText == " +
			js(fmt.Sprint(i, text)) + ")")
	}
	b.await("document.querySelector('.locks').innerText.includes(" + js(script) + ")")
	b.actions("0" + script)
	b.sees("dialog .facts", script)
	b.press("Break…")
	b.write("reason", script)
	b.press("Break the lock")
	b.gone("dialog")
	b.visit("/lock?name=" + strings.ReplaceAll(`0<script>window.pwned = 1</script>`, " ", "%20"))
	b.sees("h1", script)
	b.sees("[aria-labelledby=history]", script)
	b.visit("/?q=" + strings.ReplaceAll(script, " ", "%20"))
	b.sees("main", "No lock matches.")
	require.Equal(t, "undefined", value[string](b, "typeof window.pwned"))
	for _, link := range each[string](b, "a", "protocol") {
		require.Equal(t, "http:", link)
	}
}

// TestHoldersThatAreLinks checks that only http and https become links, to where the text says.
func TestHoldersThatAreLinks(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const job = "https://gitlab.example.com/lab/arm/-/jobs/88123"
	s.lock(adaKey, "job", "runner@ci/1 ("+job+")", time.Hour)
	s.lock(adaKey, "script", "javascript:alert(1)", time.Hour)
	b := s.visitor("")
	b.sees(cell("script", "holder"), "javascript:alert(1)")
	b.sees(cell("job", "holder"), "runner@ci/1")
	link := cell("job", "holder") + " a"
	require.Equal(t, job, of[string](b, link, "href"))
	require.Contains(t, of[string](b, link, "rel"), "noreferrer")
	b.gone(cell("script", "holder") + " a")
}

// evil serves a page of another origin, on which a visitor of the page lands.
func evil(t *testing.T) string {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>evil</title><h1>You have won</h1>"))
	}))
	t.Cleanup(page.Close)
	return page.URL
}

// TestAnotherOriginGainsNothing has a page of another port of this machine, whose requests the
// browser sends with the cookie, try what a page can try.
func TestAnotherOriginGainsNothing(t *testing.T) {
	t.Parallel()
	s := serve(t)
	lock := s.lock(adaKey, "bench-3", "ada", time.Hour)
	b := s.visitor("")
	b.base = evil(t)
	b.visit("/")

	body := js(map[string]string{"name": "bench-3", "id": lock.ID, "reason": "fun"})
	for _, kind := range []string{"application/json", "text/plain"} {
		got := value[string](b, `fetch("`+s.url+`/page/break", {
			method: "POST", credentials: "include", mode: "`+mode(kind)+`",
			headers: {"Content-Type": "`+kind+`"}, body: `+js(body)+`,
		}).then((r) => r.type, (e) => e.name)`)
		require.Contains(t, []string{"TypeError", "opaque"}, got, "nothing can be read")
	}
	require.Equal(t, "TypeError", value[string](b, `fetch("`+s.url+`/page/lock?name=bench-3",
		{credentials: "include"}).then((r) => r.type, (e) => e.name)`))
	require.Equal(t, "refused", value[string](b, `new Promise((done) => {
		const s = new WebSocket("`+strings.Replace(s.url, "http", "ws", 1)+`/page/live");
		s.onmessage = (m) => done(m.data);
		s.onclose = () => done("refused");
	})`))
	require.Equal(t, "refused", value[string](b, `new Promise((done) => {
		const frame = document.createElement("iframe");
		frame.onload = () => done(frame.contentDocument ? "readable" : "refused");
		frame.src = "`+s.url+`/";
		document.body.append(frame);
	})`))
	// A form, which needs no script, signs nobody out.
	b.do("submit a form", evaluate(`{
		const form = document.createElement("form");
		form.method = "post"; form.action = "`+s.url+`/sign-out";
		document.body.append(form); form.submit();
	}`))
	b.sees("[role=alert]", "another site")

	b.trouble()
	b.base = s.url
	b.visit("/")
	b.live() // still signed in
	b.sees(cell("bench-3", "holder"), "ada")
}

// mode returns what a fetch with that type of body needs to be sent at all.
func mode(kind string) string {
	if kind == "text/plain" {
		return "no-cors"
	}
	return "cors"
}

// TestANameThatPointsAtThisMachineGainsNothing is what a rebound DNS name would do. The browser of
// the tests takes rebound.example for this machine.
func TestANameThatPointsAtThisMachineGainsNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, server.WithPage(server.Page{User: user, Password: password, PublicView: true}))
	s.lock(adaKey, "bench-3", "ada", time.Hour)
	_, port, err := net.SplitHostPort(s.address)
	require.NoError(t, err)
	b := open(t, "http://rebound.example:"+port)
	b.visit("/")
	b.sees("[role=alert]", "rebound.example")
	require.NotContains(t, b.text(), "bench-3")
	require.Equal(t, 403, value[int](b, `fetch("/page/lock?name=bench-3").then((r) => r.status)`))
	require.Equal(t, "refused", value[string](b, `new Promise((done) => {
		const s = new WebSocket("ws://" + location.host + "/page/live");
		s.onmessage = (m) => done(m.data);
		s.onclose = () => done("refused");
	})`))
	b.trouble()
}

// TestTheCookieIsForThePageOnly checks that a signed-in browser has no rights on the API, and that
// servers of two ports do not take each other's cookie away.
func TestTheCookieIsForThePageOnly(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor("")
	require.Equal(t, 403, value[int](b, `fetch("/v1/locks/").then((r) => r.status)`))
	b.refused("403")

	other := serve(t)
	b.base = other.url
	b.signIn()
	b.base = s.url
	b.visit("/")
	b.live()
	b.press("Sign out")
	b.await("location.pathname == '/sign-in'")
	b.base = other.url
	b.visit("/")
	b.live()
}
