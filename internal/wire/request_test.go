package wire

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRequestBodies(t *testing.T) {
	require.JSONEq(t, `{"lock_name":"a\"b","creator":null}`, string(AppendCreate(nil, `a"b`, nil)))
	require.JSONEq(t, `{"lock_name":"a","creator":"c"}`, string(AppendCreate(nil, "a", new("c"))))
	require.JSONEq(t, `{"creator":null,"expires_at":null}`, string(AppendUpdate(nil, Update{})))
	at := time.Date(2099, 12, 31, 12, 34, 56, 0, time.UTC)
	require.JSONEq(t, `{"creator":"","expires_at":"2099-12-31T12:34:56Z"}`,
		string(AppendUpdate(nil, Update{Creator: new(""), ExpiresAt: &at})))
	require.JSONEq(t, `{"seconds":360}`, string(AppendSeconds(nil, 6*time.Minute)))
	require.JSONEq(t, `{"seconds":0.0015}`, string(AppendSeconds(nil, 1500*time.Microsecond)))
}

func TestRequestsThatAreRefused(t *testing.T) {
	create := func(b string) error { _, _, err := DecodeCreate([]byte(b)); return err }
	update := func(b string) error { _, err := DecodeUpdate([]byte(b)); return err }
	seconds := func(b string) error { _, err := DecodeSeconds([]byte(b)); return err }
	long := strings.Repeat("x", 1025)
	for _, c := range []struct {
		decode     func(string) error
		body, says string
	}{
		{create, "", "not valid JSON"},
		{create, "{", "not valid JSON"},
		{create, "[]", "must be a JSON object"},
		{create, "{\"lock_name\":\"\xff\"}", "not valid UTF-8"},
		{create, `{}`, "missing or null"},
		{create, `{"lock_name":null}`, "missing or null"},
		{create, `{"Lock_Name":"a"}`, "missing or null"},
		{create, `{"lock_name":7}`, "lock_name must be a string"},
		{create, `{"lock_name":""}`, "1 to 255 bytes"},
		{create, `{"lock_name":"` + long + `"}`, "it has 1025"},
		{create, `{"lock_name":"a\nb"}`, "control characters"},
		{create, `{"lock_name":"a","creator":{}}`, "creator must be a string"},
		{create, `{"lock_name":"a","creator":"` + long + `"}`, "0 to 1024 bytes"},
		{update, `{"creator":1}`, "creator must be a string"},
		{update, `{"expires_at":1}`, "must be a string"},
		{update, `{"expires_at":"soon"}`, "RFC 3339"},
		{update, `{"expires_at":"9999-12-31T23:59:60Z"}`, "years 1 to 9999"},
		{seconds, `{}`, "must be a number"},
		{seconds, `{"seconds":"1"}`, "must be a number"},
		{seconds, `{"seconds":null}`, "must be a number"},
		{seconds, `{"seconds":1e309}`, "must be between"},
		{seconds, `{"seconds":-3155760001}`, "must be between"},
	} {
		err := c.decode(c.body)
		require.ErrorContains(t, err, c.says, c.body)
		requireInvalid(t, err)
	}
}

func TestSeconds(t *testing.T) {
	for body, want := range map[string]time.Duration{
		`{"seconds":360.0}`:                   6 * time.Minute,
		` {"more":{"seconds":1},"seconds":2}`: 2 * time.Second,
		`{"seconds":-1.5e-3}`:                 -1500 * time.Microsecond,
		`{"seconds":0.0000004}`:               0,
		`{"seconds":1E-400}`:                  0,
	} {
		d, err := DecodeSeconds([]byte(body))
		require.NoError(t, err, body)
		require.Equal(t, want, d, body)
	}
}
