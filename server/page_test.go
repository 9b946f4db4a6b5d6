package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
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
				synctest.Test(t, func(t *testing.T) { visit(t, &who, request, want) })
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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

// TestLive: changes come within a second, at most four frames in a second.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...), aPage)
		b.create("arm", "ada@desk/7 (flash 1.2) #"+lockMark)
		eve := b.browser().signIn("eve viewer")
		conn, one := eve.live("/page/live"), eve.live("/page/live?name=arm")
		f := nextFrame(t, conn)
		require.True(t, f.Full)
		require.Equal(t, "eve viewer", f.User+" "+f.Role)
		require.Contains(t, eve.get(200, "/").body, f.Version+"/app.js")
		require.Len(t, f.Locks, 1)
		require.Equal(t, "ada@desk/7 flash 1.2 default", strings.Join(
			[]string{f.Locks[0].Holder, f.Locks[0].Reason, f.Locks[0].Owner}, " "))
		require.Equal(t, "your key may only read", f.Locks[0].May["break"])
		require.Len(t, nextFrame(t, one).Locks, 1)

		made := b.create("bench", "")
		begun := time.Now()
		require.Equal(t, "bench", nextFrame(t, conn).Locks[0].Name)
		require.Less(t, time.Since(begun), time.Second)
		w := b.wait("bench", "", 30)
		begun = time.Now()
		require.Equal(t, 1, nextFrame(t, conn).Locks[0].Waiters)
		require.LessOrEqual(t, time.Since(begun), 1500*time.Millisecond)
		w.cancel()
		require.Equal(t, 0, nextFrame(t, conn).Locks[0].Waiters)
		begun = time.Now()
		b.delete(made.ID)
		require.Equal(t, []string{"bench"}, nextFrame(t, conn).Gone)
		require.Less(t, time.Since(begun), time.Second)

		go func() {
			for i := range 100 { // in 5 s
				b.delete(b.create(fmt.Sprint("bench-", i), "").ID)
				b.create(fmt.Sprint("kept-", i), "")
				time.Sleep(50 * time.Millisecond)
			}
		}()
		begun = time.Now()
		frames, seen := 0, map[string]bool{}
		for ; len(seen) < 100; frames++ {
			for _, row := range nextFrame(t, conn).Locks {
				seen[row.Name] = true
			}
		}
		require.LessOrEqual(t, frames, 4*int(1+time.Since(begun)/time.Second))

		b.do(200, "PUT", "/v1/locks/"+f.Locks[0].ID, `{"creator":"bob"}`)
		require.Equal(t, "bob", nextFrame(t, one).Locks[0].Holder, "only its own name")
		b.delete(f.Locks[0].ID)
		require.Equal(t, []string{"arm"}, nextFrame(t, one).Gone)
		alive := time.Now()
		next(t, one)
		require.LessOrEqual(t, time.Since(alive), 5*time.Second, "a sign of life")

		conn.CloseNow()
		one.CloseNow()
		synctest.Wait() // nobody looks, for an instant
		b.create("arm", "")
		f = nextFrame(t, eve.live("/page/live?name=arm"))
		require.Len(t, f.Locks, 1, "what nobody has seen")
	})
}

// A lock that expires, and one whose holder stops to renew it, are shown as such without an event.
func TestStatesChangeWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, aPage)
		made := b.do(201, "POST", "/v1/locks", createBody("arm", ""), "Prefer", "lease=60").lock(t)
		renew := func() {
			b.do(200, "PUT", "/v1/locks/"+made.ID+"/keep_alive", `{"seconds":60}`)
		}
		conn := b.browser().signIn(apiKey).live("/page/live")
		row := nextFrame(t, conn).Locks[0]
		require.True(t, row.Renewed, "a client that asks for a lease renews it")
		for begun := time.Now(); time.Since(begun) < 20*time.Second; {
			next(t, conn)
		}
		renew()
		for !row.Stale {
			row = nextFrame(t, conn).Locks[0]
		}
		require.Equal(t, "held", row.State)
		require.False(t, row.Renewed)
		since := time.Since(row.Expires.Add(-time.Minute))
		require.InDelta(t, 41, since.Seconds(), 1.5)
		renew()
		row = nextFrame(t, conn).Locks[0]
		require.True(t, row.Renewed)
		require.False(t, row.Stale)
		for row.State != "expired" {
			row = nextFrame(t, conn).Locks[0]
		}
		require.Equal(t, []string{"arm"}, nextFrame(t, conn).Gone, "swept")
	})
}

// A lock that a stream holds is renewed however long its lease is; one that a command leaves held
// is not.
func TestRenewedByAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, aPage)
		conn := b.stream()
		send(t, conn, `{"n":1,"acquire":{"lock_names":["arm"],"creator":"me #%s","lease":7200}}`,
			lockMark)
		grantedOn(t, conn)
		root := b.browser().signIn(apiKey)
		row := root.row("arm")
		require.True(t, row.Renewed)
		require.Equal(t, "held", row.State)
		root.post(409, "/page/release", fmt.Sprintf(`{"id":%q}`, row.ID))
		conn.CloseNow()
		synctest.Wait()
		row = root.row("arm")
		require.False(t, row.Renewed)
		require.Equal(t, "reserved", row.State)
		root.post(200, "/page/release", fmt.Sprintf(`{"id":%q}`, row.ID))
	})
}

// TestDetails: of a name the queue, the tenures, the days in the zone of the browser, and
// percentiles.
func TestDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is 2000-01-01T00:00:00Z
		b := start(t, aPage)
		for i := range 3 {
			made := b.do(201, "POST", "/v1/locks", createBody("arm", "me #"+lockMark), "Prefer",
				"lease=86400").lock(t)
			time.Sleep(time.Duration(i+1) * time.Hour)
			b.do(200, "DELETE", "/v1/locks/"+made.ID, "", "X-Relukko-Reason", "why%20not")
		}
		b.do(201, "POST", "/v1/locks", createBody("arm", "holder"), "Prefer", "lease=86400")
		b.wait("arm", "first #aaaaaaaaaaaa", 30)
		synctest.Wait()
		b.wait("arm", "second", 30)
		synctest.Wait()
		time.Sleep(time.Hour / 600)
		var d struct {
			Lock    *pageRow
			Queue   []struct{ Creator, Owner string }
			History []struct {
				Creator, Ended, Reason string
				By                     string `json:"ended_by"`
			}
			Days []struct {
				Day  string
				Held float64
			}
			Hold    struct{ P50, P90, P99 float64 }
			Tenures int
		}
		eve := b.browser().signIn(apiKey)
		r := eve.get(200, "/page/lock?name=arm&offset=-120")
		require.NoError(t, json.Unmarshal([]byte(r.body), &d))
		require.Equal(t, 2, d.Lock.Waiters)
		require.Equal(t, "first second", d.Queue[0].Creator+" "+d.Queue[1].Creator)
		require.Len(t, d.History, 3)
		require.Equal(t, "me broken default why not", strings.Join([]string{d.History[0].Creator,
			d.History[0].Ended, d.History[0].By, d.History[0].Reason}, " "))
		require.Len(t, d.Days, 30)
		require.Equal(t, "1999-12-31", d.Days[28].Day)
		require.Equal(t, 7200., d.Days[28].Held)
		require.Equal(t, 4*3600.+6, d.Days[29].Held)
		require.Equal(t, 3600., d.Hold.P50)
		require.Equal(t, 4, d.Tenures)

		r = eve.get(200, "/page/lock?name=nobody")
		require.Contains(t, r.body, `"lock":null,"may":{"release":"nobody has it"`)
		require.NotContains(t, r.body, lockMark)
	})
}

// TestManyLocks: all of them in the first frame, and then only what changes.
func TestManyLocks(t *testing.T) {
	b := start(t, aPage)
	for i := range 5000 {
		b.create(fmt.Sprintf("bench-%04d", i), "ada@desk/7 (flash 1.2)")
	}
	root := b.browser().signIn(apiKey)
	conn := root.live("/page/live")
	f := nextFrame(t, conn)
	require.True(t, f.Full)
	require.Len(t, f.Locks, 5000)
	begun := time.Now()
	made := b.create("arm", "")
	f = nextFrame(t, conn)
	require.False(t, f.Full)
	require.Len(t, f.Locks, 1)
	b.delete(made.ID)
	require.Equal(t, []string{"arm"}, nextFrame(t, conn).Gone)
	require.Less(t, time.Since(begun), 2*time.Second)
}

// The WebSocket of a page ends with the server, and needs no close of the browser's.
func TestShutdownEndsThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, aPage)
		root := b.browser().signIn(apiKey)
		conn, deaf := root.live("/page/live"), root.live("/page/live")
		nextFrame(t, conn)
		nextFrame(t, deaf)
		closed := make(chan websocket.StatusCode, 1)
		go func() {
			for {
				if _, _, err := conn.Read(context.Background()); err != nil {
					closed <- websocket.CloseStatus(err)
					return
				}
			}
		}()
		begun := time.Now()
		require.NoError(t, b.srv.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(begun), 2*time.Second)
		require.Equal(t, websocket.StatusGoingAway, <-closed)
	})
}

// mirror applies frames as a page does.
type mirror map[string]pageRow

func (m mirror) apply(f *pageFrame) {
	if f.Full {
		clear(m)
	}
	for _, row := range f.Locks {
		m[row.Name] = row
	}
	for _, name := range f.Gone {
		delete(m, name)
	}
}

// TestLiveIsWhatIsListed: whatever is done on two servers over one store, while pages come and go
// and events are lost, soon each page shows what is there.
func TestLiveIsWhatIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(7, 1))
		one, two, bus := startTwo(t, server.WithPage(server.Page{PublicView: true}))
		for round := range 20 {
			shows := mirror{}
			conn := one.browser().live("/page/live")
			for range random.IntN(30) {
				name := fmt.Sprint("bench-", random.IntN(5))
				b := []*backend{one, two}[random.IntN(2)]
				held := b.do(200, "GET", "/v1/locks/?lock_name="+name, "").body
				switch {
				case held == "[]":
					b.create(name, fmt.Sprint("round ", round))
				case random.IntN(2) == 0:
					b.send(t.Context(), "DELETE", "/v1/locks/"+idIn(t, held), "")
				default:
					b.send(t.Context(), "PUT", "/v1/locks/"+idIn(t, held),
						fmt.Sprintf(`{"creator":"changed %d"}`, random.IntN(1000)))
				}
				if random.IntN(20) == 0 {
					bus.interrupt()
				}
				if random.IntN(3) == 0 {
					time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
				}
			}
			for begun := time.Now(); time.Since(begun) < 3*time.Second; {
				var f pageFrame // one comes at least each 5 s
				require.NoError(t, json.Unmarshal([]byte(next(t, conn)), &f))
				shows.apply(&f)
			}
			locks := two.locks()
			require.Len(t, shows, len(locks), "round %d", round)
			for _, l := range locks {
				require.Equal(t, l.ID, shows[l.Name].ID)
				require.Equal(t, *l.Creator, shows[l.Name].Holder)
			}
			conn.CloseNow()
			time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
		}
	})
}

func idIn(t *testing.T, list string) string {
	t.Helper()
	var locks []lock
	require.NoError(t, json.Unmarshal([]byte(list), &locks))
	require.Len(t, locks, 1)
	return locks[0].ID
}

// A store that fails or panics leaves the page as it was, until the store is back.
func TestThePageAndAStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newFaulty()
		b := startOn(t, st, aPage)
		b.create("arm", "")
		root := b.browser().signIn(apiKey)
		for _, fault := range []struct{ err, panic any }{
			{err: fmt.Errorf("gone: %w", store.ErrUnavailable)}, {err: errors.New("disk full")},
			{panic: "out of order"},
		} {
			err, _ := fault.err.(error)
			st.fail(err, fault.panic)
			conn := root.live("/page/live")
			time.Sleep(3 * time.Second)
			r := root.ask("GET", "/page/lock?name=arm", "")
			require.Contains(t, []int{500, 503}, r.status)
			r = root.ask("POST", "/page/service", `{"name":"bench"}`)
			require.Contains(t, []int{500, 503}, r.status, r.body)
			require.NotContains(t, r.body, "disk full")
			st.fail(nil, nil)
			require.Equal(t, "arm", nextFrame(t, conn).Locks[0].Name)
			conn.CloseNow()
			synctest.Wait()
			time.Sleep(2 * time.Second)
		}
	})
}

// slowStore holds creates up until they are let go, and fails updates.
type slowStore struct {
	store.Store
	creates chan struct{}
}

func (s *slowStore) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	if s.creates != nil {
		<-s.creates
	}
	return s.Store.Create(ctx, in)
}

func (s *slowStore) Update(context.Context, string, store.Change) (store.Lock, error) {
	return store.Lock{}, errors.New("disk full")
}

// A reservation that fails in the middle, or whose browser goes away, leaves no lock.
func TestAReservationThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &slowStore{Store: memstore.New()}
		b := startOn(t, struct{ store.Store }{st}, aPage)
		root := b.browser().signIn(apiKey)
		root.post(500, "/page/service", `{"name":"arm"}`)
		require.Empty(t, b.locks())

		st.creates = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST",
			"http://relukko.test:3000/page/service", strings.NewReader(`{"name":"arm"}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Cookie", "relukko-3000="+root.cookies["relukko-3000"])
		gone := make(chan error)
		go func() {
			_, err := b.tr.RoundTrip(req)
			gone <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		synctest.Wait()
		close(st.creates)
		synctest.Wait()
		require.Empty(t, b.locks())
	})
}
