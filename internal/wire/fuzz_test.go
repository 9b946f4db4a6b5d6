package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// A lock is what a slow and plain reading of the same bytes says.
func FuzzLock(f *testing.F) {
	f.Add([]byte(testLock))
	f.Add([]byte(`{"id":"x","\u0069d":"950DAA20-A814-451E-9407-EC496CF9C136",` +
		`"lock_name":"\ud800ä","creator":null,"expires_at":"2024-10-31T22:14:43.5+02:00"}`))
	f.Add([]byte(with("fencing_token", "7")))
	f.Add([]byte(with("expires_at", `"2024-10-31T20:14:43,5Z"`)))
	f.Add([]byte("[" + testLock + "]"))
	f.Add([]byte(` {"a" : [ {}, "]" ] , "ID":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := DecodeLock(body, &Lock{ID: testID, Name: testName})
		again, err2 := DecodeLock(body, &Lock{})
		require.Equal(t, err == nil, err2 == nil)
		require.Equal(t, l, again, "what is expected changes nothing")
		if err != nil {
			require.Zero(t, l)
			require.LessOrEqual(t, len(err.Error()), 200)
			return
		}
		var m map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &m))
		text := func(name string) (s string) {
			if raw, ok := m[name]; ok {
				require.NoError(t, json.Unmarshal(raw, &s))
			}
			return s
		}
		require.Equal(t, strings.ToLower(text("id")), l.ID)
		require.Len(t, l.ID, 36)
		require.Equal(t, text("lock_name"), l.Name)
		require.NotEmpty(t, l.Name)
		if raw, ok := m["creator"]; !ok || string(raw) == "null" {
			require.Nil(t, l.Creator)
		} else {
			require.Equal(t, text("creator"), *l.Creator)
		}
		require.Equal(t, text("ip"), l.IP)
		for name, got := range map[string]time.Time{"expires_at": l.ExpiresAt,
			"created_at": l.CreatedAt, "updated_at": l.UpdatedAt} {
			want, err := time.Parse(time.RFC3339Nano, text(name))
			require.NoError(t, err)
			require.True(t, want.Equal(got))
			require.Equal(t, time.UTC, got.Location())
		}
		require.GreaterOrEqual(t, l.Waiters, 0)

		// What is appended is read back as the same, and is what encoding/json reads.
		b := AppendLock(nil, &l)
		if !TimeInRange(l.ExpiresAt) || !TimeInRange(l.CreatedAt) || !TimeInRange(l.UpdatedAt) {
			return // moved out of the years 1 to 9999 by its offset
		}
		back, err := DecodeLock(b, &Lock{})
		require.NoError(t, err, "%s", b)
		require.Equal(t, l, back)

		list, err := decodeList(append(append([]byte("["), body...), ']'))
		require.NoError(t, err)
		require.Equal(t, []Lock{l}, list)
	})
}

// The scanner finds the members that encoding/json finds, and takes exactly what is JSON.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { "a" : 1 , "b":[{"a":2}],"a" :{"b":"}"} } `, `{"\u0061":"\"","b":"\\"}`,
		`{"a":-1.5e3}`, "{\"a\"\n:\ttrue\r}", `{"":{},"a":[]}`, `{"A":1}`,
		`[{"a":"]"},"}",[[]]]`, `[0,-0,1.5,1e5,1E+5,-2.5e-7]`, `01`, `1.`, `.5`, `-`, `1e`, `1e+`,
		`+1`, `[1,]`, `[,1]`, `[1 2]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a":1]`,
		`[1}`, `tru`, `truee`, `nul`, `falsy`,
		`"\x"`, `"\u12g4"`, `"\u123`, `"\`, `"`, "\"\x1f\"",
		"\"\x7f\xff\"", `{} {}`, ``, ` `, "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s := scan(body)
		raw := s.value()
		require.Equal(t, json.Valid(body), s.end())
		if !s.end() {
			return
		}
		require.Equal(t, string(bytes.Trim(body, " \n\r\t")), string(raw))

		var object map[string]json.RawMessage
		got := map[string]string{}
		s = scan(body)
		if s.object() {
			for s.member() {
				value := s.value()
				got[string(s.name)] = string(value)
				var want string
				err := json.Unmarshal(value, &want)
				text, ok := text(value)
				require.Equal(t, value[0] == '"' && err == nil, ok)
				if ok {
					require.Equal(t, want, text)
				}
			}
		}
		require.True(t, s.end())
		_ = json.Unmarshal(body, &object)
		require.Len(t, got, len(object))
		for name, value := range object {
			require.Equal(t, string(value), got[name])
		}

		var array []json.RawMessage
		if json.Unmarshal(body, &array) != nil {
			array = nil
		}
		s = scan(body)
		if s.array() {
			for s.element() {
				require.Equal(t, string(array[0]), string(s.value()))
				array = array[1:]
			}
		}
		require.True(t, s.end())
		require.Empty(t, array)
	})
}

// Whatever is broadcast, events are well formed, and a deletion is never taken
// for one of a lock that it does not name.
func FuzzBroadcast(f *testing.F) {
	for _, s := range broadcasts {
		f.Add([]byte(s.message))
	}
	f.Add([]byte(`{"deleted":1e999}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		var events []Event
		DecodeBroadcast(message, func(e Event) { events = append(events, e) })
		var m map[string]any
		d := json.NewDecoder(bytes.NewReader(message))
		d.UseNumber()
		if !json.Valid(message) || d.Decode(&m) != nil || m == nil {
			require.Empty(t, events)
			return
		}
		require.NotEmpty(t, events)
		deleted := 0
		for _, e := range events {
			require.Contains(t, []EventKind{EventCreated, EventUpdated, EventDeleted, EventOther},
				e.Kind)
			if e.ID != "" {
				id, ok := ParseID(e.ID)
				require.True(t, ok)
				require.Equal(t, id, e.ID)
			}
			if e.Lock != nil {
				require.Equal(t, e.ID, e.Lock.ID)
				require.Equal(t, e.Name, e.Lock.Name)
			}
			if e.Kind == EventDeleted {
				deleted++
			}
		}
		want := 0
		switch v := m["deleted"].(type) {
		case nil:
		case []any:
			want = len(v)
		case bool:
			if v {
				want = 1
			}
		case string:
			if v != "" {
				want = 1
			}
		case map[string]any:
			if len(v) > 0 {
				want = 1
			}
		case json.Number:
			if n, err := v.Float64(); err != nil || n != 0 {
				want = 1
			}
		}
		require.Equal(t, want, deleted)
	})
}

func requireInvalid(t *testing.T, err error) {
	t.Helper()
	var invalid *RequestError
	require.ErrorAs(t, err, &invalid)
	require.NotEmpty(t, invalid.Message)
	require.True(t, DecodeError(400, AppendError(nil, 400, invalid.Message, nil)).Own)
}

// A create that is accepted is within the limits, and the same when it is
// appended again.
func FuzzCreate(f *testing.F) {
	for _, seed := range []string{
		`{"lock_name":"robot-arm-1","creator":"bench-7"}`,
		`{"lock_name":"robot-arm-1","creator":null}`,
		`{"lock_name":"\ud83e\udd16 \u00e4","creator":"user@host/42 #k3v5x2m4q7ab","more":[{}]}`,
		`{"lock_name":"\ud800"}`, `{"lock_name":"a","lock_name":"b"}`, `{"lock_name":""}`,
		`{"lock_name":7}`, `{"lock_name":"a\u0000"}`, `{"lock_name":"<&>\u2028"}`,
		`null`, `[]`, `"lock_name"`, `{`, ``, "\xff", `{"lock_name":"` + strings.Repeat("x", 256) +
			`"}`,
		strings.Repeat(`[`, 20000),
	} {
		f.Add([]byte(seed))
	}
	wellFormed := func(s string) bool {
		return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		name, creator, err := DecodeCreate(body)
		if err != nil {
			requireInvalid(t, err)
			return
		}
		require.True(t, wellFormed(name) && len(name) >= 1 && len(name) <= 255, "%q", name)
		require.True(t, creator == nil || wellFormed(*creator) && len(*creator) <= 1024)
		name2, creator2, err := DecodeCreate(AppendCreate(nil, name, creator))
		require.NoError(t, err)
		require.Equal(t, name, name2)
		require.Equal(t, creator, creator2)
	})
}

// An update that is accepted has whole microseconds, and is the same when it
// is appended again.
func FuzzUpdate(f *testing.F) {
	for _, seed := range []string{
		`{"creator":null,"expires_at":null}`, `{}`,
		`{"expires_at":"2099-12-31T12:34:56.789000+00:00"}`,
		`{"creator":"x","expires_at":"0001-01-01T00:00:00Z"}`,
		`{"expires_at":"0001-01-01T00:00:00+00:01"}`,
		`{"expires_at":"9999-12-31T23:59:60Z"}`, `{"expires_at":"2099-12-31 12:34:60.999999999z"}`,
		`{"expires_at":""}`, `{"expires_at":0}`, `{"expires_at":"2099-12-31T24:00:00Z"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		u, err := DecodeUpdate(body)
		if err != nil {
			requireInvalid(t, err)
			return
		}
		if u.ExpiresAt != nil {
			require.True(t, TimeInRange(*u.ExpiresAt))
			require.Zero(t, u.ExpiresAt.Nanosecond()%1000)
		}
		again, err := DecodeUpdate(AppendUpdate(nil, u))
		require.NoError(t, err)
		require.Equal(t, u, again)
	})
}

func FuzzSeconds(f *testing.F) {
	for _, seed := range []string{
		`{"seconds":360.0}`, `{"seconds":0}`, `{"seconds":-1.5e-3}`, `{"seconds":3155760000}`,
		`{"seconds":-3155760000.000001}`, `{"seconds":1e309}`, `{"seconds":1E-400}`,
		`{"seconds":-0.0}`,
		`{"seconds":NaN}`, `{"seconds":"1"}`, `{"seconds":null}`, `{"seconds":true}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := DecodeSeconds(body)
		if err != nil {
			requireInvalid(t, err)
			return
		}
		require.LessOrEqual(t, math.Abs(d.Seconds()), maxSeconds)
		require.Zero(t, d%time.Microsecond)
		again, err := DecodeSeconds(AppendSeconds(nil, d))
		require.NoError(t, err)
		require.Equal(t, d, again)
	})
}

// An error body is the backend's own only if a slow and plain reading says so.
func FuzzErrorBody(f *testing.F) {
	f.Add(404, []byte(`{"status":404,"message":"no such lock"}`))
	f.Add(422, []byte(`{"message":"\u001b[31m","status":4.22e2}`))
	f.Add(409, []byte(`{"status":409,"message":"held","lock":`+testLock+`}`))
	f.Add(409, []byte(`{"status":409,"message":"held","lock":null}`))
	f.Add(502, []byte("<html>\x00\xff"))
	f.Add(404, []byte(`{"status":404,"message":"x","status":404}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := DecodeError(status, body)
		if e.Holder != nil {
			require.Equal(t, 409, status)
			require.NotEmpty(t, e.Holder.Name)
		}
		if !e.Own {
			return
		}
		var m map[string]any
		require.NoError(t, json.Unmarshal(body, &m))
		require.Equal(t, float64(status), m["status"])
		require.IsType(t, "", m["message"])
		delete(m, "status")
		delete(m, "message")
		if lock, ok := m["lock"]; ok {
			require.IsType(t, map[string]any{}, lock)
			delete(m, "lock")
		}
		require.Empty(t, m)
	})
}

func FuzzPrefer(f *testing.F) {
	for _, seed := range []string{
		"wait=30", "WAIT=1", "respond-async, wait=10", `a="b, wait=3", wait="4"; x`, `wait`,
		`wait=`,
		`"`, `\`, `wait="`, ",,;=,", `a="\`, "lease=60", "wait=30, lease=1.5", `lease="0.5"`,
		"lease=31536000.0000001", "lease=.",
	} {
		f.Add(seed, "wait=5, lease=7")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		p := ParsePrefer([]string{first, second})
		require.True(t, 0 <= p.Wait && p.Wait <= MaxWait && p.Wait%time.Second == 0)
		require.True(t, p.Lease == 0 || MinLease <= p.Lease && p.Lease <= MaxLease)
		require.Equal(t, p, ParsePrefer([]string{p.String()}))
	})
}
