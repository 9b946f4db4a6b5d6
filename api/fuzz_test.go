package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
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
	f.Add([]byte(`{"id":"x","\u0069d":"950DAA20-A814-451E-9407-EC496CF9C136","lock_name":"\ud800ä","creator":null,"expires_at":"2024-10-31T22:14:43.5+02:00"}`))
	f.Add([]byte(with("fencing_token", "7")))
	f.Add([]byte(with("expires_at", `"2024-10-31T20:14:43,5Z"`)))
	f.Add([]byte("[" + testLock + "]"))
	f.Add([]byte(` {"a" : [ {}, "]" ] , "ID":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := decodeLock(body, &Lock{ID: testID, Name: testName})
		again, err2 := decodeLock(body, &Lock{})
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
		require.Equal(t, text("creator"), l.Creator)
		require.Equal(t, text("ip"), l.IP)
		for name, got := range map[string]time.Time{"expires_at": l.ExpiresAt, "created_at": l.CreatedAt, "updated_at": l.UpdatedAt} {
			want, err := time.Parse(time.RFC3339Nano, text(name))
			require.NoError(t, err)
			require.True(t, want.Equal(got))
			require.Equal(t, time.UTC, got.Location())
		}
		require.GreaterOrEqual(t, l.Waiters, 0)

		// What is written as JSON is read back as the same.
		b, err := json.Marshal(l)
		if err != nil {
			require.ErrorContains(t, err, "year") // moved out of 0 to 9999 by its offset
			return
		}
		back, err := decodeLock(b, &Lock{})
		require.NoError(t, err)
		require.Equal(t, l, back)

		list, err := decodeList(append(append([]byte("["), body...), ']'))
		require.NoError(t, err)
		require.Equal(t, []Lock{l}, list)
	})
}

// Whatever body comes with an error, it ends as a short harmless line, and
// only the backend's own words make a lock gone.
func FuzzErrorBody(f *testing.F) {
	f.Add(404, []byte(goneBody))
	f.Add(422, []byte(`{"message":"\u001b[31m","status":4.22e2}`))
	f.Add(409, []byte(`{"status":409,"message":"held","lock":`+testLock+`}`))
	f.Add(502, []byte("<html>\x00\xff"))
	f.Add(404, []byte(`{"status":404,"message":"x","status":404}`))
	w := &wire{secrets: []string{testKey}}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := &Error{Op: "x", Status: status}
		e.errorOf(body, true)
		e.Message = w.clean(e.Message)
		require.LessOrEqual(t, len(e.Message), maxMessage)
		require.True(t, utf8.ValidString(e.Message))
		require.NotContains(t, e.Message, testKey)
		for _, r := range e.Message {
			require.True(t, unicode.IsPrint(r), "%q", r)
		}
		if errors.Is(e, ErrGone) {
			require.Contains(t, []int{404, 422}, status)
			var m map[string]any
			require.NoError(t, json.Unmarshal(body, &m))
			require.Len(t, m, 2)
			require.Contains(t, []any{404.0, 422.0}, m["status"])
			require.IsType(t, "", m["message"])
		}
		if e.Holder != nil {
			require.Equal(t, 409, status)
			require.NotEmpty(t, e.Holder.Name)
		}
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
		broadcast(message, func(e Event) { events = append(events, e) })
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
			require.Contains(t, []EventKind{EventCreated, EventUpdated, EventDeleted, EventOther}, e.Kind)
			if e.ID != "" {
				id, ok := parseID(e.ID)
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

// A base URL that is accepted leads to requests of that host, below that path.
func FuzzBaseURL(f *testing.F) {
	for _, s := range []string{"http://localhost:3000", "https://u:p@ci.example/relukko/", "http://[::1]/a%2Fb/", "http://h?x", "//h", "http://h:99999", "http://a@b@c", "http://h/%zz", "http://h/../.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		base, err := parseBase(s)
		if err != nil {
			require.Less(t, len(err.Error()), 2*maxMessage+100)
			if _, password, ok := strings.Cut(s, ":"); ok && strings.Contains(s, "@") && len(password) > 8 {
				require.NotContains(t, err.Error(), password)
			}
			return
		}
		w := newWire(base, testKey, nil, nil)
		u := w.url("/v1/locks/" + testID)
		require.Contains(t, []string{"http", "https"}, u.Scheme)
		require.Nil(t, u.User)
		require.Empty(t, u.RawQuery)
		require.True(t, strings.HasSuffix(u.RequestURI(), "/v1/locks/"+testID), u.RequestURI())
		req, err := http.NewRequest("GET", u.String(), nil)
		require.NoError(t, err, "it can be written and read again")
		require.Equal(t, u.RequestURI(), req.URL.RequestURI())
	})
}

// Retry-After is never negative, and more than nothing only where it says so.
func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Thu, 31 Oct 2024 20:14:43 GMT", "Thu, 31 Oct 2024 20:14:13 GMT")
	f.Add("99999999999999999999", "x")
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT")
	f.Add("-1", "")
	f.Add("1.5", "")
	f.Fuzz(func(t *testing.T, after, date string) {
		d := retryAfter(http.Header{"Retry-After": {after}, "Date": {date}})
		require.GreaterOrEqual(t, d, time.Duration(0))
		after = strings.TrimSpace(after)
		if _, err := http.ParseTime(after); err != nil && strings.Trim(after, "0123456789") != "" {
			require.Zero(t, d)
		}
	})
}
