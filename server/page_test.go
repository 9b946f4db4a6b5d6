package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
)

// aPage is that of the tests.
var aPage = server.WithPage(server.Page{User: "ops", Password: "a good password"})

// browser makes requests as a browser with its cookies does.
type browser struct {
	*backend
	cookies map[string]string
	header  http.Header // besides those of a page of the same origin
}

func (b *backend) browser() *browser {
	return &browser{b, map[string]string{}, http.Header{}}
}

// ask makes a request: with a body that begins with { that of a script, with another that of a
// form.
func (b *browser) ask(method, path, body string) reply {
	b.t.Helper()
	req, err := http.NewRequestWithContext(
		b.t.Context(), method, "http://relukko.test:3000"+path, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	} else if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range b.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	for name, values := range b.header {
		req.Header[name] = values
	}
	resp, err := b.tr.RoundTrip(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	for _, cookie := range resp.Cookies() {
		b.cookies[cookie.Name] = cookie.Value
		if cookie.MaxAge < 0 {
			delete(b.cookies, cookie.Name)
		}
	}
	return reply{resp.StatusCode, resp.Header, string(data), nil}
}

// get and post expect that status.
func (b *browser) get(status int, path string) reply {
	b.t.Helper()
	r := b.ask("GET", path, "")
	require.Equal(b.t, status, r.status, "GET %s: %s", path, r.body)
	return r
}

func (b *browser) post(status int, path, body string) reply {
	b.t.Helper()
	r := b.ask("POST", path, body)
	require.Equal(b.t, status, r.status, "POST %s: %s", path, r.body)
	return r
}

// signIn signs in with a key.
func (b *browser) signIn(key string) *browser {
	b.t.Helper()
	b.post(303, "/sign-in", url.Values{"key": {key}}.Encode())
	return b
}

// pageRow is a lock as the page has it.
type pageRow struct {
	Name, ID, State, Holder, Link, Reason, Owner, IP string
	Since                                            time.Time
	Expires                                          time.Time `json:"expires_at"`
	Renewed, Stale, Mine                             bool
	Waiters                                          int
	May                                              map[string]string
}

// pageFrame is a message of /page/live.
type pageFrame struct {
	Now           time.Time
	Full          bool
	Locks         []pageRow
	Gone          []string
	SignedOut     bool `json:"signed_out"`
	User, Role    string
	Version, Fail string
}

// live opens the WebSocket of the page.
func (b *browser) live(path string) *websocket.Conn {
	b.t.Helper()
	conn, _, err := b.dialLive(path)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(64 << 20)
	return conn
}

func (b *browser) dialLive(path string) (*websocket.Conn, *http.Response, error) {
	header := b.header.Clone()
	for name, value := range b.cookies {
		header.Add("Cookie", name+"="+value)
	}
	if header.Get("Origin") == "" {
		header.Set("Origin", "http://relukko.test:3000")
	}
	return websocket.Dial(b.t.Context(), "http://relukko.test:3000"+path, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: b.tr}, HTTPHeader: header,
		CompressionMode: websocket.CompressionNoContextTakeover,
	})
}

// nextFrame returns the next frame that says more than the time.
func nextFrame(t *testing.T, conn *websocket.Conn) (f pageFrame) {
	t.Helper()
	for !f.Full && !f.SignedOut && len(f.Locks)+len(f.Gone) == 0 {
		f = pageFrame{}
		require.NoError(t, json.Unmarshal([]byte(next(t, conn)), &f))
	}
	return f
}

// visitors are the columns of whatVisitorsMay, besides those of roles.
var visitors = append(roles[:len(roles)-2:len(roles)-2],
	role{"pwd", "", "bob", "desk"}, // signed in with the password
	role{"pub", "", "bob", "desk"}, // not signed in, where everybody may read
	role{"non", "", "bob", "desk"}, // not signed in
	role{"key", "", "bob", "desk"}, // not signed in, with a key in the header
)

// whatVisitorsMay has the status of each request to the page for each visitor. ID is a lock that
// nobody renews, PROGRAM one that its holder renews, NEW a name that is free.
const whatVisitorsMay = `

request                    vie vow own for in  out fin adm ain aou def pwd pub non key
GET /                      200 200 200 200 200 200 200 200 200 200 200 200 200 303 303
GET /lock?name=NAME        200 200 200 200 200 200 200 200 200 200 200 200 200 303 303
GET /page/lock?name=NAME   200 200 200 200 200 200 200 200 200 200 200 200 200 401 401
GET /page/lock?name=NEW    200 200 200 200 200 200 200 200 200 200 200 200 200 401 401
LIVE /page/live            200 200 200 200 200 200 200 200 200 200 200 200 200 401 401
LIVE /page/live?name=NAME  200 200 200 200 200 200 200 200 200 200 200 200 200 401 401
GET /sign-in               303 303 303 303 303 303 303 303 303 303 303 303 200 200 200
POST /sign-out             303 303 303 303 303 303 303 303 303 303 303 303 303 303 303
GET /sign-in/link?token=x  403 403 403 403 403 403 403 403 403 403 403 403 403 403 403
POST /page/reserve NEW     403 403 200 200 200 403 200 200 200 403 200 200 401 401 401
POST /page/service NEW     403 403 200 200 200 403 200 200 200 403 200 200 401 401 401
POST /page/reserve NAME    403 403 409 409 409 403 409 409 409 403 409 409 401 401 401
POST /page/service NAME    403 403 409 409 409 403 409 409 409 403 409 409 401 401 401
POST /page/extend ID       403 403 200 403 200 403 403 200 200 403 200 200 401 401 401
POST /page/release ID      403 403 200 403 200 403 403 409 409 403 409 409 401 401 401
POST /page/break ID        403 403 200 403 200 403 403 200 200 403 200 200 401 401 401
POST /page/extend PROGRAM  403 403 409 403 409 403 403 409 409 403 409 409 401 401 401
POST /page/release PROGRAM 403 403 409 403 409 403 403 409 409 403 409 409 401 401 401
POST /page/break PROGRAM   403 403 200 403 200 403 403 200 200 403 200 200 401 401 401
POST /page/extend GONE     404 404 404 404 404 404 404 404 404 404 404 404 401 401 401
POST /page/release GONE    404 404 404 404 404 404 404 404 404 404 404 404 401 401 401
POST /page/break GONE      404 404 404 404 404 404 404 404 404 404 404 404 401 401 401
POST /page/steal ID        404 404 404 404 404 404 404 404 404 404 404 404 404 404 404
GET /page/break            405 405 405 405 405 405 405 405 405 405 405 405 405 405 405
POST /page/lock            405 405 405 405 405 405 405 405 405 405 405 405 405 405 405
GET /v1/locks/             403 403 403 403 403 403 403 403 403 403 403 403 403 403 200
POST /v1/locks             403 403 403 403 403 403 403 403 403 403 403 403 403 403 201
GET /v1/history/           403 403 403 403 403 403 403 403 403 403 403 403 403 403 200
`

// TestWhatVisitorsMay goes through every request to the page with every visitor. A cookie counts
// for the page alone, and a key in a header for the API alone.
func TestWhatVisitorsMay(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(whatVisitorsMay), "\n")
	header := strings.Fields(lines[0])[1:]
	for _, line := range lines[1:] {
		words := strings.Fields(line)
		request := words[:len(words)-len(header)]
		for i, who := range visitors {
			require.Equal(t, header[i], who.column)
			want, err := strconv.Atoi(words[len(request)+i])
			require.NoError(t, err)
			t.Run(strings.Join(request, " ")+"/"+who.column, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) { visit(t, &who, request, want) })
			})
		}
	}
}

// visit makes a request of the table.
func visit(t *testing.T, who *role, request []string, want int) {
	page := server.Page{User: "ops", Password: "a good password", PublicView: who.column == "pub"}
	b := start(t, server.WithKeys(someKeys...), server.WithPage(page))
	id := b.lockFor(who, request)
	visitor := b.browser()
	switch {
	case who.secret != "":
		visitor.signIn(who.secret)
	case who.column == "pwd":
		visitor.post(303, "/sign-in", "user=ops&password=a+good+password")
	case who.column == "key":
		visitor.header.Set("X-Api-Key", apiKey)
	}
	before, may := b.locks(), visitor.may(who, request)
	status, text := visitor.visit(who, request, id)
	require.Equal(t, want, status, text)
	if want >= 400 || request[0] == "GET" || request[0] == "LIVE" {
		require.Equal(t, before, b.locks(), "nothing was changed")
	}
	if may != nil && status != 404 {
		require.Equal(t, want == 200, *may == "", "the page says so before: %q", *may)
	}
}

// lockFor makes the lock that a request is about. It returns its id.
func (b *backend) lockFor(who *role, request []string) string {
	b.t.Helper()
	headers := []string{"X-API-KEY", secretOf(who.owner, access.User)}
	if request[len(request)-1] == "PROGRAM" {
		headers = append(headers, "Prefer", "lease=60") // as a program that renews it
	}
	r := b.send(b.t.Context(), "POST", "/v1/locks/", createBody(who.lock, "me"), headers...)
	require.Equal(b.t, 201, r.status, r.body)
	if request[len(request)-1] == "GONE" {
		return nobody
	}
	return r.lock(b.t).ID
}

// visit makes a request of the table. It returns its status, and what it says.
func (b *browser) visit(who *role, request []string, id string) (int, string) {
	b.t.Helper()
	path := strings.NewReplacer("NAME", who.lock, "NEW", who.lock+"-new").Replace(request[1])
	switch {
	case request[0] == "LIVE":
		conn, resp, err := b.dialLive(path)
		if err != nil {
			return resp.StatusCode, ""
		}
		defer conn.CloseNow()
		require.True(b.t, nextFrame(b.t, conn).Full)
		return 200, ""
	case path == "/v1/locks" && request[0] == "POST":
		r := b.ask("POST", path, createBody(who.lock+"-new", ""))
		return r.status, r.body
	case len(request) == 2:
		r := b.ask(request[0], path, "")
		return r.status, r.body
	}
	r := b.ask(request[0], path, actionOn(who, request, id))
	return r.status, r.body
}

func actionOn(who *role, request []string, id string) string {
	name := who.lock
	if request[2] == "NEW" {
		name += "-new"
	}
	return fmt.Sprintf(`{"name":%q,"id":%q,"until":%q,"reason":"why not"}`, name, id,
		time.Now().Add(time.Hour).Format(time.RFC3339))
}

// may returns what the page says beforehand about an action, or nil where it says nothing.
func (b *browser) may(who *role, request []string) *string {
	b.t.Helper()
	if len(request) != 3 || request[2] == "GONE" || request[1] == "/page/steal" {
		return nil
	}
	name := who.lock
	if request[2] == "NEW" {
		name += "-new"
	}
	r := b.ask("GET", "/page/lock?name="+name, "")
	if r.status == 401 {
		return nil
	}
	var details struct{ May map[string]string }
	require.NoError(b.t, json.Unmarshal([]byte(r.body), &details), r.body)
	why := details.May[strings.TrimPrefix(request[1], "/page/")]
	return &why
}

// Who does something on the page stands in the history and in the audit log.
func TestActionsOnThePage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := start(t, server.WithKeys(someKeys...), aPage,
			server.WithAuditLog(slog.New(slog.NewJSONHandler(&log, nil))))
		root := b.browser().signIn("root admin")
		until := time.Now().Add(26 * time.Hour).UTC().Truncate(time.Second)
		root.post(200, "/page/reserve", fmt.Sprintf(
			`{"name":"bench-1","until":%q,"reason":"see https://ci.example/7, please"}`,
			until.Format(time.RFC3339)))
		held := b.do(200, "GET", "/v1/locks/?lock_name=bench-1", "").body
		require.Contains(t, held, `"creator":"root (see https://ci.example/7, please)"`)
		require.Contains(t, held, `"owner":"root"`)
		row := root.row("bench-1")
		require.Equal(t, "reserved", row.State)
		require.Equal(t, until, row.Expires)
		require.Equal(t, "https://ci.example/7", row.Link)
		require.Equal(t, "root", row.Holder)
		require.True(t, row.Mine)

		later := until.Add(time.Hour)
		root.post(200, "/page/extend", fmt.Sprintf(`{"id":%q,"until":%q}`, row.ID,
			later.Format(time.RFC3339)))
		require.Equal(t, later, root.row("bench-1").Expires)
		root.post(200, "/page/release", fmt.Sprintf(`{"id":%q}`, row.ID))
		root.post(200, "/page/service", `{"name":"bench-1","reason":"the arm is calibrated"}`)
		row = root.row("bench-1")
		require.Equal(t, "out of service", row.State)
		require.Equal(t, 9999, row.Expires.Year())

		ops := b.browser()
		ops.post(303, "/sign-in", "user=ops&password=a+good+password&next=/lock%3Fname%3Dbench-1")
		ops.post(400, "/page/break", fmt.Sprintf(`{"id":%q}`, row.ID))
		ops.post(200, "/page/break", fmt.Sprintf(`{"id":%q,"reason":"ready\nagain"}`, row.ID))
		ops.post(404, "/page/break", fmt.Sprintf(`{"id":%q,"reason":"again"}`, row.ID))
		history := b.do(200, "GET", "/v1/history/", "").body
		require.Contains(t, history, `"ended":"broken","ended_by":"ops","reason":"ready again"`)
		require.Contains(t, history, `"ended":"released","ended_by":"root","reason":""`)
		require.Contains(t, log.String(), `"msg":"signed in on the page"`)
		require.Equal(t, 1, strings.Count(log.String(), "by another than its holder"), log.String())
		require.Contains(t, log.String(), `"key":"ops","role":"admin","owner":"root"`)
	})
}

// row returns the lock of a name as the page shows it.
func (b *browser) row(name string) pageRow {
	b.t.Helper()
	var details struct{ Lock *pageRow }
	r := b.get(200, "/page/lock?name="+url.QueryEscape(name))
	require.NoError(b.t, json.Unmarshal([]byte(r.body), &details), r.body)
	require.NotNil(b.t, details.Lock, r.body)
	return *details.Lock
}

// Requests that make no sense change nothing, and say what is wrong.
func TestWrongActionsOnThePage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...), aPage, server.WithMaxHold(4*time.Hour))
		ada := b.browser().signIn("ada user")
		at := func(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339) }
		for body, says := range map[string]string{
			`{"name":"x"}`: "Say until when.",
			`{"name":"x","until":"` + at(-time.Second) + `"}`:          "That time is over.",
			`{"name":"x","until":"tomorrow"}`:                          "cannot be read",
			`{"name":`:                                                 "cannot be read",
			`{"name":"","until":"` + at(time.Hour) + `"}`:              "The name must have 1",
			`{"name":"a\u0000","until":"` + at(time.Hour) + `"}`:       "control characters",
			`{"name":"x","until":"` + at(5*time.Hour) + `"}`:           "4h0m0s at most",
			`{"name":"x","until":"9999-12-31T23:59:59.5Z"}`:            "9999",
			`{"name":"` + strings.Repeat("x", 20<<10) + `","until":1}`: "cannot be read",
		} {
			r := ada.ask("POST", "/page/reserve", body)
			require.Contains(t, []int{400, 403}, r.status, r.body)
			require.Contains(t, r.body, says)
		}
		ada.post(403, "/page/service", `{"name":"x"}`) // longer than --max-hold
		ada.post(400, "/page/release", `{"id":"17"}`)
		require.Empty(t, b.locks())
		require.Equal(t, 415, ada.ask("POST", "/page/reserve", "name=x").status, "a form")
		long := fmt.Sprintf(`{"name":"x","until":%q,"reason":%q}`, at(time.Hour),
			strings.Repeat("ä", 2000))
		ada.post(200, "/page/reserve", long)
		require.LessOrEqual(t, len(*b.locks()[0].Creator), 520)
	})
}

// A name that others wait for is not taken from them.
func TestThePageDoesNotOvertake(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...), aPage)
		held := b.create("arm", "me")
		w := b.wait("arm", "other", 30)
		synctest.Wait()
		root := b.browser().signIn("root admin")
		conn := root.live("/page/live")
		require.Equal(t, 1, nextFrame(t, conn).Locks[0].Waiters)
		root.post(200, "/page/break", fmt.Sprintf(`{"id":%q,"reason":"mine"}`, held.ID))
		synctest.Wait()
		granted := w.granted(t)
		r := root.post(409, "/page/service", `{"name":"arm"}`)
		require.Contains(t, r.body, `\"arm\" is held by other`)
		row := nextFrame(t, conn).Locks[0]
		require.Equal(t, granted.ID, row.ID, "one frame for the hand-over")
		require.Equal(t, "other", row.Holder)
	})
}
