package api

import (
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

// Whatever body comes with an error, it ends as a short harmless line, and
// only the backend's own words make a lock gone.
func FuzzErrorBody(f *testing.F) {
	f.Add(404, []byte(goneBody))
	f.Add(422, []byte(`{"message":"\u001b[31m","status":4.22e2}`))
	f.Add(409, []byte(`{"status":409,"message":"held","lock":`+testLock+`}`))
	f.Add(502, []byte("<html>\x00\xff"))
	f.Add(404, []byte(`{"status":404,"message":"x","status":404}`))
	w := new(transport)
	w.secrets.add(testKey)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		e := &Error{Op: "x", Status: status}
		e.read(body, true)
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
			require.Contains(t, []int{2, 3}, len(m))
			require.Equal(t, float64(status), m["status"])
			require.IsType(t, "", m["message"])
		}
		if e.Holder != nil {
			require.Equal(t, 409, status)
			require.NotEmpty(t, e.Holder.Name)
		}
	})
}

// A base URL that is accepted leads to requests of that host, below that path.
func FuzzBaseURL(f *testing.F) {
	for _, s := range []string{"http://localhost:3000", "https://u:p@ci.example/relukko/",
		"http://[::1]/a%2Fb/", "http://h?x", "//h", "http://h:99999", "http://a@b@c",
		"http://h/%zz", "http://h/../..", "unix:///run/a.sock"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		base, err := parseBase(s)
		if err != nil {
			require.Less(t, len(err.Error()), 2*maxMessage+100)
			if _, password, ok := strings.Cut(s, ":"); ok && strings.Contains(s, "@") &&
				len(password) > 8 {
				require.NotContains(t, err.Error(), password)
			}
			return
		}
		w := newTransport(base, testKey, config{})
		u := withPath(w.base, "/v1/locks/"+testID)
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
