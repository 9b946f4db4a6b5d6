package server_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
)

const nobody = "950daa20-a814-451e-9407-ec496cf9c136" // an id that no lock has

// TestEveryRequest goes once through the API as it is used.
func TestEveryRequest(t *testing.T) {
	b := start(t)
	b.do(200, "GET", "/healthchecker", "")

	for _, path := range []string{"/v1/locks", "/v1/locks/"} {
		require.Equal(t, "[]", b.do(200, "GET", path, "").body)
		r := b.do(201, "POST", path, `{"lock_name":"robot-arm-1","creator":"bench-7"}`)
		require.Equal(t, "application/json", r.header.Get("Content-Type"))
		require.Equal(t, "30", r.header.Get("Relukko-Wait"))
		made := r.lock(t)
		require.Equal(t, "robot-arm-1", made.Name)
		require.Equal(t, "bench-7", *made.Creator)
		require.Equal(t, "192.0.2.7", made.IP)
		require.Nil(t, made.Waiters)

		read := b.do(200, "GET", "/v1/locks/"+made.ID, "").body
		require.Equal(t, r.body, read, "the same members everywhere")
		require.Equal(t, "["+read+"]", b.do(200, "GET", path, "").body)
		require.Equal(t, read, b.do(200, "GET", "/v1/locks/"+strings.ToUpper(made.ID), "").body,
			"ids in either case")
		counted := strings.TrimSuffix(read, "}") + `,"waiters":0}`
		require.Equal(t, counted, b.do(200, "GET", "/v1/locks/"+made.ID+"?waiters=1", "").body)
		require.Equal(t, "["+counted+"]", b.do(200, "GET", path+"?waiters=1", "").body)

		r = b.do(409, "POST", path, `{"lock_name":"robot-arm-1","creator":null}`)
		require.Equal(t, "30", r.header.Get("Relukko-Wait"))
		require.Empty(t, r.header.Get("Preference-Applied"))

		b.do(200, "PUT", "/v1/locks/"+made.ID, `{"creator":"bench-8","expires_at":null}`)
		b.do(200, "GET", "/v1/locks/"+made.ID+"/keep_alive", "")
		b.do(200, "PUT", "/v1/locks/"+made.ID+"/keep_alive", `{"seconds":360.0}`)
		b.do(200, "GET", "/v1/locks/"+made.ID+"/add_to_expire_at", "")
		r = b.do(200, "PUT", "/v1/locks/"+made.ID+"/add_to_expire_at", `{"seconds":1}`)
		require.Equal(t, "bench-8", *r.lock(t).Creator)

		require.Equal(t, r.body, b.do(200, "DELETE", "/v1/locks/"+made.ID, "").body, "as it was")
		require.Equal(t, "[]", b.do(200, "GET", path, "").body)
	}
	require.Equal(t, "[]", b.do(200, "GET", "/v1/waiting/", "").body)
}

// TestALockHasTheSameMembersEverywhere: in the response to a create, a read, a list, an update and
// a delete, in a conflict and in broadcasts.
func TestALockHasTheSameMembersEverywhere(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		watch := b.watch()
		synctest.Wait()
		made := b.do(201, "POST", "/v1/locks", createBody("robot-arm-1", "bench-7"))
		path := "/v1/locks/" + made.lock(t).ID
		waiting := b.wait("robot-arm-1", "", 5)
		synctest.Wait()
		bodies := []string{
			made.body,
			b.do(200, "GET", path, "").body,
			strings.Trim(b.do(200, "GET", "/v1/locks/", "").body, "[]"),
			b.do(200, "PUT", path, "{}").body,
			b.do(200, "GET", path+"/keep_alive", "").body,
			b.do(200, "GET", path+"/add_to_expire_at", "").body,
		}
		conflict := b.do(409, "POST", "/v1/locks", createBody("robot-arm-1", ""))
		bodies = append(bodies, member(t, conflict.body, "lock"),
			b.do(200, "DELETE", path, "").body)
		synctest.Wait()
		for _, message := range watch.take() {
			for _, kind := range []string{"created", "updated", "deleted"} {
				if strings.HasPrefix(strings.TrimPrefix(message, "MessageText "), `{"`+kind) {
					bodies = append(
						bodies, member(t, strings.TrimPrefix(message, "MessageText "), kind))
				}
			}
		}
		require.Greater(t, len(bodies), 12)
		for _, body := range bodies {
			var lock map[string]any
			require.NoError(t, json.Unmarshal([]byte(body), &lock), body)
			require.ElementsMatch(t, []string{"id", "lock_name", "creator", "ip", "expires_at",
				"created_at", "updated_at", "fencing_token", "owner"},
				slices.Collect(maps.Keys(lock)), body)
		}
		waiting.granted(t)
	})
}

// member returns a member of a JSON object.
func member(t *testing.T, object, name string) string {
	t.Helper()
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(object), &members), object)
	return string(members[name])
}

// TestALockIsFoundByItsName: the query leaves out all others.
func TestALockIsFoundByItsName(t *testing.T) {
	b := start(t)
	b.create("robot-arm-1", "")
	want := b.do(201, "POST", "/v1/locks", createBody("robot arm & 2", "")).body
	for _, path := range []string{"/v1/locks", "/v1/locks/"} {
		found := b.do(200, "GET", path+"?lock_name=robot%20arm+%26+2", "").body
		require.Equal(t, "["+want+"]", found)
		require.Equal(t, "[]", b.do(200, "GET", path+"?lock_name=robot-arm", "").body)
		require.Equal(t, "[]", b.do(200, "GET", path+"?lock_name=", "").body)
		require.Contains(t, b.do(200, "GET", path+"?waiters=1&lock_name=robot-arm-1", "").body,
			`"waiters":0}]`)
	}
}

// TestAWrongPathIsNoLockThatIsGone: a client whose base URL is wrong must not take its lock for
// lost.
func TestAWrongPathIsNoLockThatIsGone(t *testing.T) {
	b := start(t)
	require.JSONEq(t, `{"status":404,"message":"there is no lock with the id `+nobody+
		`: it was released or has expired"}`,
		b.do(404, "DELETE", "/v1/locks/"+nobody, "").body)
	for _, path := range []string{"/v1/v1/locks/" + nobody, "/v1/locks/" + nobody + "/",
		"//v1/locks/" + nobody, `/"`} {
		var answer map[string]any
		require.NoError(t, json.Unmarshal([]byte(b.do(404, "DELETE", path, "").body), &answer),
			path)
		require.Equal(t, map[string]any{"status": 404., "message": "there is nothing at " + path,
			"path": path}, answer)
	}
}

func TestErrors(t *testing.T) {
	big := `{"lock_name":"robot-arm-1","creator":"` + strings.Repeat("x", 64<<10) + `"}`
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		message            string // a part of it
	}{
		"unknown path":             {"GET", "/", "", 404, "nothing at /"},
		"unknown path below v1":    {"GET", "/v1", "", 404, "nothing at /v1"},
		"unknown path below locks": {"GET", "/v1/locks/" + nobody + "/steal", "", 404, "nothing"},
		"slash after an id":        {"GET", "/v1/locks/" + nobody + "/", "", 404, "nothing"},
		"slash after health":       {"GET", "/healthchecker/", "", 404, "nothing"},
		"two slashes":              {"GET", "/v1//locks", "", 404, "nothing"},
		"dots":                     {"GET", "/v1/../v1/locks", "", 404, "nothing"},
		"dots in disguise":         {"GET", "/v1/%2e%2e/v1/locks", "", 404, "nothing"},
		"a mark":                   {"DELETE", "/v1/waiting/" + mark, "", 404, "nothing"},

		"PATCH on locks":  {"PATCH", "/v1/locks/", "", 405, "GET, HEAD, POST"},
		"DELETE on locks": {"DELETE", "/v1/locks", "", 405, "GET, HEAD, POST"},
		"POST on a lock":  {"POST", "/v1/locks/" + nobody, "", 405, "DELETE, GET, HEAD, PUT"},
		"POST keep_alive": {"POST", "/v1/locks/" + nobody + "/keep_alive", "", 405, "GET, PUT"},
		"HEAD keep_alive": {"HEAD", "/v1/locks/" + nobody + "/keep_alive", "", 405, ""},
		"DELETE add": {"DELETE", "/v1/locks/" + nobody + "/add_to_expire_at", "", 405,
			"GET, PUT"},
		"DELETE waiting":  {"DELETE", "/v1/waiting/", "", 405, "GET, HEAD"},
		"POST health":     {"POST", "/healthchecker", "", 405, "GET, HEAD"},
		"POST broadcast":  {"POST", "/ws/broadcast", "", 405, "GET"},
		"OPTIONS":         {"OPTIONS", "/v1/locks", "", 405, "GET, HEAD, POST"},
		"not a WebSocket": {"GET", "/ws/broadcast", "", 426, "Upgrade"},
		"not a stream":    {"GET", "/v1/stream", "", 426, "Upgrade"},
		"GET a gone lock": {"GET", "/v1/locks/" + nobody, "", 404, "there is no lock"},
		"PUT a gone lock": {"PUT", "/v1/locks/" + nobody, "{}", 404, "no lock with the id"},
		"DELETE gone":     {"DELETE", "/v1/locks/" + nobody, "", 404, "no lock with the id"},
		"keep a gone alive": {"PUT", "/v1/locks/" + nobody + "/keep_alive", `{"seconds":1}`, 404,
			"no lock with the id"},
		"add to a gone": {"GET", "/v1/locks/" + nobody + "/add_to_expire_at", "", 404,
			"no lock with the id"},
		"no UUID": {"GET", "/v1/locks/17", "", 404, "UUID"},
		"almost a UUID": {"DELETE", "/v1/locks/950daa20-a814-451e-9407-ec496cf9c13g", "", 404,
			"UUID"},

		"no body": {"POST", "/v1/locks", "", 400, "not valid JSON"},
		"half a body": {"POST", "/v1/locks", `{"lock_name":"robot`, 400,
			"not valid JSON"},
		"two bodies": {"POST", "/v1/locks", `{"lock_name":"a"}{}`, 400,
			"not valid JSON"},
		"null": {"POST", "/v1/locks", `null`, 400, "must be a JSON object"},
		"an array": {"POST", "/v1/locks", `["lock_name"]`, 400,
			"must be a JSON object"},
		"a number":               {"PUT", "/v1/locks/" + nobody, `1`, 400, "must be a JSON object"},
		"bytes that are no text": {"POST", "/v1/locks", "{\"lock_name\":\"\xff\"}", 400, "UTF-8"},
		"no name":                {"POST", "/v1/locks", `{"creator":"x"}`, 400, "lock_name"},
		"a null name":            {"POST", "/v1/locks", `{"lock_name":null}`, 400, "lock_name"},
		"a wrong name": {"POST", "/v1/locks", `{"lock_name":7}`, 400,
			"lock_name must be a string"},
		"an empty name": {"POST", "/v1/locks", `{"lock_name":""}`, 400,
			"lock_name must have 1 to 255 bytes"},
		"a long name": {"POST", "/v1/locks",
			`{"lock_name":"` + strings.Repeat("ä", 128) + `"}`, 400, "it has 256"},
		"a name with a newline": {"POST", "/v1/locks", `{"lock_name":"a\nb"}`, 400,
			"lock_name must not contain control"},
		"a name with DEL": {"POST", "/v1/locks", `{"lock_name":"a\u007f"}`, 400,
			"lock_name must not contain control"},
		"a name with C1": {"POST", "/v1/locks", `{"lock_name":"a\u0085"}`, 400,
			"lock_name must not contain control"},
		"a name in capitals": {"POST", "/v1/locks", `{"LOCK_NAME":"a"}`, 400, "lock_name"},
		"a wrong creator": {"POST", "/v1/locks", `{"lock_name":"a","creator":["x"]}`, 400,
			"creator must be a string"},
		"a long creator": {"POST", "/v1/locks", `{"lock_name":"a","creator":"` +
			strings.Repeat("x", 1025) + `"}`, 400, "creator must have 0 to 1024"},
		"a creator with NUL": {"PUT", "/v1/locks/" + nobody, `{"creator":"a\u0000"}`, 400,
			"creator must not contain control"},
		"a large body": {"POST", "/v1/locks", big, 413, "64 KiB"},
		"a wrong expiry": {"PUT", "/v1/locks/" + nobody, `{"expires_at":1}`, 400,
			"expires_at must be"},
		"an expiry of words": {"PUT", "/v1/locks/" + nobody, `{"expires_at":"tomorrow"}`, 400,
			"expires_at must be"},
		"an expiry without zone": {"PUT", "/v1/locks/" + nobody,
			`{"expires_at":"2099-12-31T12:34:56"}`, 400, "expires_at must be"},
		"an expiry in year 0": {"PUT", "/v1/locks/" + nobody,
			`{"expires_at":"0001-01-01T00:00:00+01:00"}`, 400, "years 1 to 9999"},
		"no seconds": {"PUT", "/v1/locks/" + nobody + "/keep_alive", `{}`, 400,
			"seconds must be a number"},
		"null seconds": {"PUT", "/v1/locks/" + nobody + "/keep_alive", `{"seconds":null}`,
			400, "seconds must be a number"},
		"seconds in quotes": {"PUT", "/v1/locks/" + nobody + "/keep_alive", `{"seconds":"5"}`,
			400, "seconds must be a number"},
		"NaN seconds": {"PUT", "/v1/locks/" + nobody + "/keep_alive", `{"seconds":NaN}`,
			400, "not valid JSON"},
		"huge seconds": {"PUT", "/v1/locks/" + nobody + "/keep_alive",
			`{"seconds":1e999}`, 400, "between -3155760000 and 3155760000"},
		"many seconds": {"PUT", "/v1/locks/" + nobody + "/add_to_expire_at",
			`{"seconds":3155760000.1}`, 400, "between -3155760000 and 3155760000"},
		"few seconds": {"PUT", "/v1/locks/" + nobody + "/add_to_expire_at",
			`{"seconds":-4e9}`, 400, "between -3155760000 and 3155760000"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			r := b.do(c.status, c.method, c.path, c.body)
			require.Equal(t, "application/json", r.header.Get("Content-Type"))
			if c.status == 405 {
				require.Contains(t, r.header.Get("Allow"), c.message)
			}
			if c.method == "HEAD" {
				return
			}
			var said map[string]any
			require.NoError(t, json.Unmarshal([]byte(r.body), &said), r.body)
			delete(said, "path") // which only unknown paths have
			require.Len(t, said, 2)
			require.EqualValues(t, c.status, said["status"])
			require.Contains(t, said["message"], c.message)
		})
	}
}

// TestUnusualButRight are requests that must pass.
func TestUnusualButRight(t *testing.T) {
	b := start(t)
	r := b.do(201, "POST", "/v1/locks/",
		`{"more":{"than":[1]},"lock_name":"`+strings.Repeat("x", 255)+`","LOCK_NAME":7}`)
	require.Nil(t, r.lock(t).Creator)
	id := r.lock(t).ID
	b.do(201, "POST", "/v1/locks/",
		` {"lock_name":"\u00e4 \"<&>\\ 🤖","creator":"`+strings.Repeat("x", 1024)+`"} `)
	require.Empty(t, *b.do(201, "POST", "/v1/locks/", `{"lock_name":"b","creator":""}`).lock(
		t).Creator)
	b.do(200, "PUT", "/v1/locks/"+id, `{}`)
	b.do(200, "PUT", "/v1/locks/"+id+"/keep_alive", `{"seconds":0.25,"minutes":"?"}`)
	b.do(200, "PUT", "/v1/locks/"+id+"/keep_alive", `{"seconds":-1e2}`)

	var names []string
	for _, l := range b.locks() {
		names = append(names, l.Name)
	}
	require.Equal(t, []string{strings.Repeat("x", 255), `ä "<&>\ 🤖`, "b"}, names)
	require.Empty(t, b.do(200, "HEAD", "/v1/locks", "").body)
	require.Empty(t, b.do(200, "HEAD", "/v1/locks/"+id, "").body)
	require.Empty(t, b.do(200, "HEAD", "/healthchecker", "").body)
}

func (b *backend) locks() (locks []lock) {
	b.t.Helper()
	require.NoError(b.t, json.Unmarshal(
		[]byte(b.do(200, "GET", "/v1/locks/?waiters=1", "").body), &locks))
	return locks
}

func TestALockBehindAProxyHasItsClientsAddress(t *testing.T) {
	b := start(t, server.WithTrustedProxies(netip.MustParsePrefix("192.0.2.0/24")))
	r := b.do(201, "POST", "/v1/locks", createBody("robot-arm-1", ""),
		"X-Forwarded-For", "203.0.113.9, 198.51.100.1, 192.0.2.80")
	require.Equal(t, "198.51.100.1", r.lock(t).IP)
}
