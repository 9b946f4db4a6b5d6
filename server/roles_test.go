package server_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
)

// namedKey returns a key whose secret is its name and its role, as in "ada user".
func namedKey(name string, role access.Role, patterns ...string) access.Key {
	return access.Key{Name: name, Role: role, Patterns: patterns,
		Hash: sha256.Sum256([]byte(secretOf(name, role, patterns...)))}
}

func secretOf(name string, role access.Role, patterns ...string) string {
	return strings.Join(append([]string{name, role.String()}, patterns...), " ")
}

// someKeys are those that the tests of roles use.
var someKeys = []access.Key{
	namedKey("eve", access.Viewer), namedKey("ada", access.User), namedKey("bob", access.User),
	namedKey("ada", access.User, "bench-*"), namedKey("root", access.Admin),
	namedKey("root", access.Admin, "bench-*"), namedKey("ada", access.Viewer),
}

type role struct{ column, secret, owner, lock string }

// roles are the columns of whatRolesMay: a client's key, and a lock that is there.
var roles = []role{
	{"vie", "eve viewer", "bob", "desk"},            // a viewer
	{"vow", "ada viewer", "ada", "desk"},            // a viewer with the name of the owner
	{"own", "ada user", "ada", "desk"},              // a user's own lock
	{"for", "ada user", "bob", "desk"},              // another's
	{"in", "ada user bench-*", "ada", "bench-1"},    // own, the name matches
	{"out", "ada user bench-*", "ada", "desk"},      // own, it does not
	{"fin", "ada user bench-*", "bob", "bench-1"},   // another's, it matches
	{"adm", "root admin", "bob", "desk"},            // an admin
	{"ain", "root admin bench-*", "bob", "bench-1"}, // an admin, the name matches
	{"aou", "root admin bench-*", "bob", "desk"},    // an admin, it does not
	{"def", apiKey, "bob", "desk"},                  // a key of WithAPIKeys
	{"non", "", "bob", "desk"},                      // no key
	{"wro", "ada  user", "bob", "desk"},             // a wrong key
}

// whatRolesMay has the status of each request for each role. NAME is a name like that of the lock.
const whatRolesMay = `

request                           vie vow own for  in out fin adm ain aou def non wro
POST /v1/locks                    403 403 201 201 201 403 201 201 201 403 201 403 403
POST /v1/locks/                   403 403 201 201 201 403 201 201 201 403 201 403 403
POST /v1/locks/ wait              403 403 201 201 201 403 201 201 201 403 201 403 403
GET /v1/locks                     200 200 200 200 200 200 200 200 200 200 200 403 403
GET /v1/locks/                    200 200 200 200 200 200 200 200 200 200 200 403 403
HEAD /v1/locks/                   200 200 200 200 200 200 200 200 200 200 200 403 403
GET /v1/locks/?lock_name=NAME     200 200 200 200 200 200 200 200 200 200 200 403 403
GET /v1/locks/?waiters=1          200 200 200 200 200 200 200 200 200 200 200 403 403
GET /v1/locks/ID                  200 200 200 200 200 200 200 200 200 200 200 403 403
HEAD /v1/locks/ID                 200 200 200 200 200 200 200 200 200 200 200 403 403
PUT /v1/locks/ID                  403 403 200 403 200 403 403 200 200 403 200 403 403
DELETE /v1/locks/ID               403 403 200 403 200 403 403 200 200 403 200 403 403
DELETE /v1/locks/ID mark          403 403 200 403 200 403 403 200 200 403 200 403 403
DELETE /v1/locks/ID reason        403 403 200 403 200 403 403 200 200 403 200 403 403
GET /v1/locks/ID/keep_alive       403 403 200 403 200 403 403 200 200 403 200 403 403
PUT /v1/locks/ID/keep_alive       403 403 200 403 200 403 403 200 200 403 200 403 403
GET /v1/locks/ID/add_to_expire_at 403 403 200 403 200 403 403 200 200 403 200 403 403
PUT /v1/locks/ID/add_to_expire_at 403 403 200 403 200 403 403 200 200 403 200 403 403
DELETE /v1/locks/GONE             404 404 404 404 404 404 404 404 404 404 404 403 403
PUT /v1/locks/GONE/keep_alive     404 404 404 404 404 404 404 404 404 404 404 403 403
PATCH /v1/locks/ID                405 405 405 405 405 405 405 405 405 405 405 403 403
GET /v1/waiting/                  200 200 200 200 200 200 200 200 200 200 200 403 403
GET /v1/history/                  200 200 200 200 200 200 200 200 200 200 200 403 403
GET /v1/backup                    403 403 403 403 403 403 403 200 200 200 200 403 403
GET /v1/stream                    426 426 426 426 426 426 426 426 426 426 426 403 403
GET /ws/broadcast                 426 426 426 426 426 426 426 426 426 426 426 403 403
GET /healthchecker                200 200 200 200 200 200 200 200 200 200 200 200 200
GET /livez                        200 200 200 200 200 200 200 200 200 200 200 200 200
GET /readyz                       200 200 200 200 200 200 200 200 200 200 200 200 200
stream ping                       200 200 200 200 200 200 200 200 200 200 200 403 403
stream acquire                    403 403 200 200 200 403 200 200 200 403 200 403 403
stream acquire again              403 403 200 200 200 403 200 200 200 403 200 403 403
stream acquire_all                403 403 200 200 200 403 200 200 200 403 200 403 403
stream renew                      403 403 200 403 200 403 403 200 200 403 200 403 403
stream release                    403 403 200 403 200 403 403 200 200 403 200 403 403
stream renew GONE                 404 404 404 404 404 404 404 404 404 404 404 403 403
stream release GONE               404 404 404 404 404 404 404 404 404 404 404 403 403
stream cancel                     403 403 200 200 200 200 200 200 200 200 200 403 403
`

const lockMark, otherMark = "k3v9x2m4q7ab", "bbbbbbbbbbbb"

// TestWhatRolesMay goes through every request with every role, over HTTP and on the stream.
func TestWhatRolesMay(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(whatRolesMay), "\n")
	header := strings.Fields(lines[0])[1:]
	for _, line := range lines[1:] {
		words := strings.Fields(line)
		request := strings.Join(words[:len(words)-len(header)], " ")
		for i, role := range roles {
			require.Equal(t, header[i], role.column)
			want, err := strconv.Atoi(words[len(words)-len(header)+i])
			require.NoError(t, err)
			t.Run(request+"/"+role.column, func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					b := start(t, server.WithKeys(someKeys...))
					made := b.lockOf(role.owner, role.lock)
					before := b.locks()
					got := b.as(role.secret, request, &made)
					require.Equal(t, want, got.status, got.body)
					if want == 403 || want == 404 {
						require.Equal(t, before, b.locks(), "nothing was changed")
					}
					if want == 403 && role.secret != "" && role.column != "wro" &&
						!strings.HasPrefix(request, "HEAD") {
						role.explains(t, request, got.body)
					}
				})
			})
		}
	}
}

// explains requires that a refusal says what is missing, and whose lock it is.
func (r *role) explains(t *testing.T, request, message string) {
	t.Helper()
	name, _, _ := strings.Cut(r.secret, " ")
	require.Contains(t, message, fmt.Sprintf(`the key \"%s\"`, name))
	require.Regexp(t, `this needs the role|whose names match bench-\*`, message)
	if strings.Contains(request, "ID") || strings.HasPrefix(request, "stream re") {
		require.Contains(t, message,
			fmt.Sprintf(`lock \"%s\" of the key \"%s\": `, r.lock, r.owner))
	}
}

// lockOf makes a lock, by its owner.
func (b *backend) lockOf(owner, name string) lock {
	b.t.Helper()
	r := b.send(b.t.Context(), "POST", "/v1/locks/", createBody(name, "me #"+lockMark),
		"X-API-KEY", secretOf(owner, access.User))
	require.Equal(b.t, 201, r.status, r.body)
	return r.lock(b.t)
}

// as makes a request of the table with a key.
func (b *backend) as(secret, request string, made *lock) reply {
	b.t.Helper()
	id := made.ID
	if strings.Contains(request, "GONE") {
		id = nobody
	}
	if on, ok := strings.CutPrefix(request, "stream "); ok {
		return b.onStream(secret, on, id, made.Name)
	}
	words := strings.Fields(request)
	path := strings.NewReplacer("GONE", id, "ID", id, "NAME", made.Name).Replace(words[1])
	headers := []string{"X-API-KEY", secret}
	switch words[len(words)-1] {
	case "wait":
		headers = append(headers, "Prefer", "wait=1")
	case "mark":
		headers = append(headers, "Relukko-Mark", lockMark)
	case "reason":
		headers = append(headers, "X-Relukko-Reason", "why%20not")
	}
	body := ""
	switch {
	case words[0] == "POST":
		body = createBody(made.Name+"-new", "")
	case words[0] == "PUT" && strings.HasSuffix(path, id):
		body = `{"creator":"mine now","expires_at":null}`
	case words[0] == "PUT":
		body = `{"seconds":3600}`
	}
	r := b.send(b.t.Context(), words[0], path, body, headers...)
	require.NoError(b.t, r.err)
	return r
}

// onStream makes a request on a stream. The status of one that is not refused is 200.
func (b *backend) onStream(secret, request, id, name string) reply {
	b.t.Helper()
	conn, resp, err := b.dialStream(secret)
	if err != nil {
		return reply{status: resp.StatusCode}
	}
	defer conn.CloseNow()
	next(b.t, conn)
	kind, more, _ := strings.Cut(request, " ")
	frame := map[string]any{"n": 1}
	switch kind {
	case "ping":
		frame[kind] = true
	case "cancel":
		frame[kind] = otherMark
	case "renew", "release":
		frame[kind], frame["lease"] = id, 60
	default:
		frame[kind] = map[string]any{"lock_names": []string{name + "-new"},
			"creator": "me #" + otherMark, "lease": 60, "again": more == "again"}
	}
	text, err := json.Marshal(frame)
	require.NoError(b.t, err)
	send(b.t, conn, "%s", text)
	var answer struct {
		N     int
		Error struct{ Status int }
	}
	r := reply{status: 200, body: next(b.t, conn)}
	require.NoError(b.t, json.Unmarshal([]byte(r.body), &answer))
	require.Equal(b.t, 1, answer.N, r.body)
	if answer.Error.Status != 0 {
		r.status = answer.Error.Status
	}
	return r
}

func (b *backend) dialStream(secret string) (*websocket.Conn, *http.Response, error) {
	conn, resp, err := websocket.Dial(b.t.Context(), "http://relukko.test/v1/stream",
		&websocket.DialOptions{
			HTTPClient: &http.Client{Transport: b.tr}, Subprotocols: []string{"relukko.stream.v1"},
			HTTPHeader: http.Header{"X-Api-Key": {secret}},
		})
	if err == nil {
		b.t.Cleanup(func() { conn.CloseNow() })
	}
	return conn, resp, err
}

// streamOf opens a stream with a key, and returns what the hello says.
func (b *backend) streamOf(secret string) (*websocket.Conn, string) {
	b.t.Helper()
	conn, _, err := b.dialStream(secret)
	require.NoError(b.t, err)
	return conn, next(b.t, conn)
}

// TestMarksBelongToAKeysName: nobody cancels, takes over or finds an acquire by the mark of
// another, whatever the role is. Another key of the name does.
func TestMarksBelongToAKeysName(t *testing.T) {
	for secret, same := range map[string]bool{
		"bob user": false, "root admin": false, apiKey: false, "eve viewer": false,
		"ada viewer": false, "ada user bench-*": true, "ada user": true,
	} {
		t.Run(secret, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t, server.WithKeys(someKeys...))
				owner, _ := b.streamOf("ada user")
				send(t, owner, "%s", acquiring(1, "bench-1", lockMark))
				held := grantedOn(t, owner)
				send(t, owner, "%s", acquiring(2, "bench-2", otherMark)) // free for itself
				other := grantedOn(t, owner)
				send(t, owner, "%s", acquiring(3, "bench-2", "cccccccccccc")) // waits
				synctest.Wait()

				conn, _ := b.streamOf(secret)
				// It finds the lock by its mark only if that is its own.
				send(t, conn, `{"n":1,"acquire":{"lock_names":["bench-1"],"creator":"x #%s",`+
					`"lease":60,"again":true}}`, lockMark)
				found := next(t, conn)
				require.Equal(t, same, strings.Contains(found, held.ID) &&
					strings.Contains(found, `"n":1,"seen":0,"lock":`), found)
				// It ends the acquire that waits only if that is its own.
				send(t, conn, `{"n":2,"cancel":"cccccccccccc"}`)
				answer := next(t, conn)
				if same {
					until(t, owner, `{"n":3,"error":{"status":410`)
				}
				send(t, conn, `{"n":3,"cancel":%q}`, otherMark)
				answer += next(t, conn)
				require.Equal(t, strings.HasSuffix(secret, "viewer"),
					strings.Contains(answer, `"status":403`), answer)
				synctest.Wait()
				require.Equal(t, same, b.send(t.Context(), "GET", "/v1/locks/"+other.ID, "").
					status == 404)
				require.Equal(t, 200, b.send(t.Context(), "GET", "/v1/locks/"+held.ID, "").status)
				if !same {
					var waiters []any
					require.NoError(t, json.Unmarshal(
						[]byte(b.do(200, "GET", "/v1/waiting/", "").body), &waiters))
					require.Len(t, waiters, 1)
				}
			})
		})
	}
}

// TestAMarkOfAnotherInAHeader: who reads the mark of a lock that is released cannot pass for its
// holder.
func TestAMarkOfAnotherInAHeader(t *testing.T) {
	b := start(t, server.WithKeys(someKeys...))
	made := b.lockOf("ada", "desk")
	again := func(secret string) int {
		return b.send(t.Context(), "DELETE", "/v1/locks/"+made.ID, "", "X-API-KEY", secret,
			"Relukko-Mark", lockMark).status
	}
	require.Equal(t, 403, again("bob user"))
	require.Equal(t, 200, again("ada user"))
	require.Equal(t, 200, again("ada user"), "repeated on the way")
	for _, secret := range []string{"bob user", "eve viewer", "root admin", apiKey} {
		require.Equal(t, 404, again(secret), secret)
	}
}

// TestNamesThatAKeyMayNotLock are skipped where there are others.
func TestNamesThatAKeyMayNotLock(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...))
		conn, hello := b.streamOf("ada user bench-*")
		require.Equal(t, `{"hello":{"key":"ada","role":"user","features":["all"]}}`, hello)
		for n, row := range []struct{ names, gets string }{
			{`"desk","bench-1","Bench-3"`, "bench-1"}, {`"desk","bench-1","bench-2"`, "bench-2"},
		} {
			send(t, conn, `{"n":%d,"acquire":{"lock_names":[%s],"creator":"me #%012d",`+
				`"lease":60}}`, n+1, row.names, n)
			require.Equal(t, row.gets, grantedOn(t, conn).Name)
		}
		for n, names := range []string{`"desk","Bench-1"`, `"bench-1\u0000"`, `" bench-1"`,
			`"bench%2D1"`, `"ｂench-1"`} {
			send(t, conn, `{"n":%d,"acquire":{"lock_names":[%s],"creator":"me #%012d",`+
				`"lease":60}}`, n+10, names, n+10)
			answer := next(t, conn)
			if !strings.Contains(answer, `"status":400`) { // no name at all
				require.Contains(t, answer, `"status":403`)
				require.Contains(t, answer, "whose names match bench-*")
			}
		}
	})
}

// TestTricks are what somebody with few rights tries to get more.
func TestTricks(t *testing.T) {
	b := start(t, server.WithKeys(someKeys...))
	made := b.lockOf("bob", "desk")
	encoded := "%" + fmt.Sprintf("%x", made.ID[0]) + made.ID[1:]
	for name, row := range map[string]struct {
		method, path, body string
		headers            []string
	}{
		"another method in a header": {"GET", "/v1/locks/ID/keep_alive", "",
			[]string{"X-HTTP-Method-Override", "GET"}},
		"an id in capitals":    {"DELETE", "/v1/locks/" + strings.ToUpper(made.ID), "", nil},
		"a percent-encoded id": {"DELETE", "/v1/locks/" + encoded, "", nil},
		"a longer path":        {"DELETE", "/v1/locks//ID", "", nil},
		"a path with dots":     {"DELETE", "/v1/locks/x/../ID", "", nil},
		"its mark": {"DELETE", "/v1/locks/ID", "",
			[]string{"Relukko-Mark", lockMark}},
		"the owner in the body": {"PUT", "/v1/locks/ID", `{"creator":"x","owner":"ada"}`, nil},
		"nothing to change":     {"PUT", "/v1/locks/ID", `{}`, nil},
		"an address of its own": {"DELETE", "/v1/locks/ID", "",
			[]string{"X-Forwarded-For", made.IP}},
		"a query":                {"DELETE", "/v1/locks/ID?key=root&role=admin", "", nil},
		"a protocol in a header": {"DELETE", "/v1/locks/ID", "", []string{"Upgrade", "h2c"}},
	} {
		for _, secret := range []string{"ada user", "eve viewer", "root admin bench-*"} {
			r := b.send(t.Context(), row.method, strings.Replace(row.path, "ID", made.ID, 1),
				row.body, append(row.headers, "X-API-KEY", secret)...)
			require.Contains(t, []int{400, 403, 404}, r.status, "%s: %s", name, r.body)
		}
	}
	// Of two keys the first counts.
	_, answer := b.raw("DELETE /v1/locks/" + made.ID + " HTTP/1.1\nHost: x\n" +
		"X-API-KEY: ada user\nX-API-KEY: bob user\n\n")
	status, err := answer.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, status, "403")
	require.Equal(t, made.UpdatedAt, b.locks()[0].UpdatedAt)

	own := b.send(t.Context(), "POST", "/v1/locks/",
		`{"lock_name":"shelf","creator":"bob","owner":"bob"}`, "X-API-KEY", "ada user")
	require.Equal(t, 201, own.status)
	require.Contains(t, own.body, `"owner":"ada"`)
	own = b.send(t.Context(), "PUT", "/v1/locks/"+own.lock(t).ID, `{"creator":"me #`+lockMark+`"}`,
		"X-API-KEY", "ada user")
	require.Equal(t, 200, own.status)
	require.Contains(t, own.body, `"owner":"ada"`)
	conn, _ := b.streamOf("ada user")
	send(t, conn, `{"n":1,"owner":"bob","key":"root","acquire":{"lock_names":["lamp"],`+
		`"owner":"bob","creator":"bob #aaaaaaaaaaaa","lease":60}}`)
	require.Contains(t, next(t, conn), `"owner":"ada"`)
}
