package wire

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Times have as many fractional digits as needed, none for a whole second.
func TestTimes(t *testing.T) {
	at := func(ns int) time.Time { return time.Date(2099, 12, 31, 12, 34, 56, ns, time.UTC) }
	for want, tm := range map[string]time.Time{
		"2099-12-31T12:34:56Z":           at(0),
		"2099-12-31T12:34:56.789Z":       at(789_000_000),
		"2099-12-31T12:34:56.000001Z":    at(1_000),
		"2099-12-31T12:34:56.123456789Z": at(123_456_789),
		"2099-12-31T11:34:56.5Z": time.Date(2099, 12, 31, 12, 34, 56, 5e8,
			time.FixedZone("", 3600)),
		"0001-01-01T00:00:00Z": {},
	} {
		raw := appendTime(nil, tm)
		require.Equal(t, `"`+want+`"`, string(raw))
		back, ok := timeOf(raw)
		require.True(t, ok)
		require.True(t, tm.Equal(back))
	}
}

func TestExpiryInAnyForm(t *testing.T) {
	for sent, want := range map[string]string{
		"2099-12-31T12:34:56Z":                   "2099-12-31T12:34:56Z",
		"2099-12-31T12:34:56.789000+00:00":       "2099-12-31T12:34:56.789Z",
		"2099-12-31T12:34:56.789-00:00":          "2099-12-31T12:34:56.789Z",
		"2099-12-31T12:34:56.1+05:30":            "2099-12-31T07:04:56.1Z",
		"2099-12-31t12:34:56z":                   "2099-12-31T12:34:56Z",
		"2099-12-31 12:34:56-07:00":              "2099-12-31T19:34:56Z",
		"2099-12-31T12:34:56.123456789Z":         "2099-12-31T12:34:56.123456Z",
		"2099-12-31T12:34:56.123456789012+01:00": "2099-12-31T11:34:56.123456Z",
		"2099-12-31T23:59:60Z":                   "2100-01-01T00:00:00Z",
		"2099-12-31T23:59:60.5Z":                 "2100-01-01T00:00:00.5Z",
		"9999-12-31T23:59:59.999999Z":            "9999-12-31T23:59:59.999999Z",
	} {
		u, err := DecodeUpdate([]byte(`{"creator":null,"expires_at":"` + sent + `"}`))
		require.NoError(t, err)
		require.Equal(t, `"`+want+`"`, string(appendTime(nil, *u.ExpiresAt)), sent)
	}
	for _, sent := range []string{"", "now", "2099-12-31", "2099-12-31T12:34:56",
		"9999-12-31T23:59:60Z"} {
		_, err := DecodeUpdate([]byte(`{"expires_at":"` + sent + `"}`))
		requireInvalid(t, err)
	}
}
