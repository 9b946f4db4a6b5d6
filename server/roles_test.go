package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
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
GET /v1/stream                    426 426 426 426 426 426 426 426 426 426 426 403 403
GET /ws/broadcast                 426 426 426 426 426 426 426 426 426 426 426 403 403
GET /healthchecker                200 200 200 200 200 200 200 200 200 200 200 200 200
stream ping                       200 200 200 200 200 200 200 200 200 200 200 403 403
stream acquire                    403 403 200 200 200 403 200 200 200 403 200 403 403
stream acquire again              403 403 200 200 200 403 200 200 200 403 200 403 403
stream acquire_all                403 403 501 501 501 403 501 501 501 403 501 403 403
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
				synctest.Test(t, func(t *testing.T) {
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
			synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...))
		conn, hello := b.streamOf("ada user bench-*")
		require.Equal(t, `{"hello":{"key":"ada","role":"user","features":[]}}`, hello)
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

// until reads messages until one begins like that.
func until(t *testing.T, conn *websocket.Conn, prefix string) {
	t.Helper()
	for !strings.HasPrefix(next(t, conn), prefix) {
	}
}

// grantedOn returns the next lock that is granted on a stream.
func grantedOn(t *testing.T, conn *websocket.Conn) lock {
	t.Helper()
	for {
		var message struct{ Lock *lock }
		text := next(t, conn)
		require.NotContains(t, text, "error")
		require.NoError(t, json.Unmarshal([]byte(text), &message))
		if message.Lock != nil {
			return *message.Lock
		}
	}
}

// TestAKeyThatGoes: its connections get 401 and are closed, its places are given up, and its locks
// stay.
func TestAKeyThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...))
		held := b.lockOf("bob", "desk")
		kept := b.lockOf("ada", "shelf")
		conn, _ := b.streamOf("ada user")
		send(t, conn, "%s", acquiring(1, "desk", otherMark))
		synctest.Wait()
		plain := b.waitAs("ada user", "desk")
		watcher := b.watchAs("ada user")
		other, _ := b.streamOf("bob user")
		synctest.Wait()
		send(t, other, "%s", acquiring(1, "desk", otherMark))
		synctest.Wait()

		b.srv.SetKeys(append(access.Admins(apiKey), namedKey("bob", access.User),
			namedKey("eve", access.Viewer))...)
		const gone = "this X-API-KEY is not valid any more"
		require.Equal(t, `{"error":{"status":401,"message":"`+gone+`"}}`, next(t, conn))
		synctest.Wait()
		b.delete(held.ID)
		require.Equal(t, "desk", grantedOn(t, other).Name, "immediately")
		_, _, err := conn.Read(context.Background())
		require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err))
		r := <-plain
		require.Equal(t, 401, r.status, r.body)
		require.JSONEq(t, `{"status":401,"message":"lock \"desk\": `+gone+`"}`, r.body)
		require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(<-watcher.end))
		require.Equal(t, 403, b.send(t.Context(), "GET", "/v1/locks/", "", "X-API-KEY",
			"ada user").status)
		require.Equal(t, 200, b.send(t.Context(), "GET", "/v1/locks/"+kept.ID, "").status)
		send(t, other, `{"n":9,"ping":true}`)
		require.Contains(t, next(t, other), "pong")
	})
}

// waitAs queues a create of a key.
func (b *backend) waitAs(secret, name string) chan reply {
	answer := make(chan reply, 1)
	go func() {
		answer <- b.send(b.t.Context(), "POST", "/v1/locks/", createBody(name, ""),
			"X-API-KEY", secret, "Prefer", "wait=30")
	}()
	return answer
}

func (b *backend) watchAs(secret string) *watcher {
	b.t.Helper()
	conn, _, err := websocket.Dial(b.t.Context(), "http://relukko.test/ws/broadcast",
		&websocket.DialOptions{
			HTTPClient: &http.Client{Transport: b.tr},
			HTTPHeader: http.Header{"X-Api-Key": {secret}},
		})
	require.NoError(b.t, err)
	return b.collect(conn)
}

// TestAKeyWhoseRightsChange: the next request has the new ones, and what waits is asked for again,
// with them.
func TestAKeyWhoseRightsChange(t *testing.T) {
	change := func(role access.Role, patterns ...string) []access.Key {
		key := namedKey("ada", access.User)
		key.Role, key.Patterns = role, patterns
		return append(access.Admins(apiKey), key, namedKey("bob", access.User))
	}
	for name, row := range map[string]struct {
		to   []access.Key
		says string // to the acquire that comes again
	}{
		"a viewer":        {change(access.Viewer), `"status":403,"message":"lock \"desk\"`},
		"other patterns":  {change(access.User, "b*"), `"status":403,"message":"lock \"desk\"`},
		"an admin":        {change(access.Admin), `{"n":1,"waiting":{"ahead":0,`},
		"a wider pattern": {change(access.User, "d*"), `{"n":1,"waiting":{"ahead":0,`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, server.WithKeys(someKeys...))
				held := b.lockOf("bob", "desk")
				conn, _ := b.streamOf("ada user")
				send(t, conn, "%s", acquiring(1, "desk", lockMark))
				plain, watcher := b.waitAs("ada user", "desk"), b.watchAs("ada user")
				synctest.Wait()
				b.srv.SetKeys(row.to...)
				_, _, err := conn.Read(context.Background())
				require.Equal(t, websocket.StatusServiceRestart, websocket.CloseStatus(err))
				synctest.Wait()

				conn, hello := b.streamOf("ada user")
				require.Contains(t, hello, fmt.Sprintf(`"role":"%v"`, row.to[1].Role))
				send(t, conn, `{"n":1,"acquire":{"lock_names":["desk"],"creator":"me #%s",`+
					`"lease":60,"wait":true,"again":true,"progress":true}}`, lockMark)
				require.Contains(t, next(t, conn), row.says)
				require.Empty(t, watcher.end, "it may read on")
				refused := strings.Contains(row.says, "403")
				if refused {
					require.Equal(t, 403, (<-plain).status)
				}
				b.delete(held.ID)
				synctest.Wait()
				require.Equal(t, refused, len(b.locks()) == 0)
			})
		})
	}
}

// TestALockThatWasGrantedMeanwhile: where an acquire that comes again is refused, no lock of its
// mark stays.
func TestALockThatWasGrantedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...))
		conn, _ := b.streamOf("ada user")
		send(t, conn, "%s", acquiring(1, "desk", lockMark))
		grantedOn(t, conn)
		b.srv.SetKeys(append(access.Admins(apiKey), func() access.Key {
			key := namedKey("ada", access.User)
			key.Patterns = []string{"bench-*"}
			return key
		}())...)
		synctest.Wait()
		conn, _ = b.streamOf("ada user")
		send(t, conn, `{"n":1,"acquire":{"lock_names":["desk"],"creator":"me #%s","lease":60,`+
			`"again":true}}`, lockMark)
		require.Contains(t, next(t, conn), `"status":403`)
		require.Empty(t, b.locks())
	})
}

// TestRenewalsOfOwnLocksAskTheStoreOnce: whose lock it is need not be asked on the connection that
// has acquired it.
func TestRenewalsOfOwnLocksAskTheStoreOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &countingGets{Store: newFaulty()}
		b := startOn(t, st, server.WithKeys(someKeys...))
		conn, _ := b.streamOf("ada user")
		send(t, conn, "%s", acquiring(1, "desk", lockMark))
		held := grantedOn(t, conn)
		renew := func(conn *websocket.Conn, n int) {
			send(t, conn, `{"n":%d,"renew":%q,"lease":60}`, n, held.ID)
			require.Equal(t, held.ID, grantedOn(t, conn).ID)
		}
		renew(conn, 2)
		require.Zero(t, st.gets)
		other, _ := b.streamOf("ada user")
		renew(other, 1)
		renew(other, 2)
		require.Equal(t, 1, st.gets)
		send(t, other, `{"n":3,"release":%q}`, held.ID)
		require.Equal(t, `{"n":3,"done":true}`, next(t, other))
		require.Equal(t, 1, st.gets)
	})
}

type countingGets struct {
	store.Store
	gets int
}

func (c *countingGets) Get(ctx context.Context, id string) (store.Lock, error) {
	c.gets++
	return c.Store.Get(ctx, id)
}

// TestALockThatCannotBeRead: where the store does not say whose a lock is, nothing is done to it.
func TestALockThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newFaulty()
		gets := &failingGets{faulty: st}
		b := startOn(t, gets, server.WithKeys(someKeys...))
		made := b.lockOf("ada", "desk")
		gets.failing = true
		for _, request := range []string{"DELETE /v1/locks/ID", "PUT /v1/locks/ID",
			"GET /v1/locks/ID/keep_alive", "stream renew", "stream release"} {
			require.Equal(t, 503, b.as("ada user", request, &made).status, request)
		}
		require.Equal(t, made.ExpiresAt, b.locks()[0].ExpiresAt)
		require.Equal(t, 200, b.as("root admin", "DELETE /v1/locks/ID", &made).status)
	})
}

type failingGets struct {
	*faulty
	failing bool
}

func (f *failingGets) Get(ctx context.Context, id string) (store.Lock, error) {
	if f.failing {
		return store.Lock{}, store.ErrUnavailable
	}
	return f.faulty.Get(ctx, id)
}

// TestFloodsOfWrongKeys are slowed down on every path, and nobody else is.
func TestFloodsOfWrongKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		paths := []string{"/v1/locks/", "/v1/stream", "/ws/broadcast", "/v1/waiting/"}
		for i := range 20 {
			b.do(403, "GET", paths[i%len(paths)], "", "X-API-KEY", "guess")
		}
		time.Sleep(20500 * time.Millisecond)
		for _, path := range paths {
			r := b.do(429, "GET", path, "", "X-API-KEY", "guess")
			require.Equal(t, "40", r.header.Get("Retry-After"))
			require.JSONEq(t, `{"status":429,"message":"wrong or missing X-API-KEY, as in many `+
				`requests from 192.0.2.7 before: try again in 40 s, or with a right key `+
				`immediately"}`, r.body)
		}
		b.do(200, "GET", "/v1/locks/", "")
		b.stream()
		b.watch()
		time.Sleep(40 * time.Second)
		b.do(403, "GET", "/v1/locks/", "", "X-API-KEY", "guess")
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
