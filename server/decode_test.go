package server

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func FuzzDecodeCreate(f *testing.F) {
	for _, seed := range []string{
		`{"lock_name":"robot-arm-1","creator":"bench-7"}`, `{"lock_name":"robot-arm-1","creator":null}`,
		`{"lock_name":"\ud83e\udd16 \u00e4","creator":"user@host/42 #k3v9x2m4q7ab","more":[{}]}`,
		`{"lock_name":"\ud800"}`, `{"lock_name":"a","lock_name":"b"}`, `{"lock_name":""}`, `{"lock_name":7}`, `{"lock_name":"a\u0000"}`,
		`null`, `[]`, `"lock_name"`, `{`, ``, "\xff", `{"lock_name":"` + strings.Repeat("x", 256) + `"}`, strings.Repeat(`[`, 20000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		name, creator, err := decodeCreate(body)
		if err != nil {
			requireBadRequest(t, err)
			return
		}
		require.True(t, wellFormed(name) && len(name) >= 1 && len(name) <= 255, "%q", name)
		require.True(t, creator == nil || wellFormed(*creator) && len(*creator) <= 1024)
		again, _, err := decodeCreate(append(appendString([]byte(`{"lock_name":`), name), '}'))
		require.NoError(t, err)
		require.Equal(t, name, again)
		if creator != nil {
			mark := markOf(*creator)
			require.True(t, mark == "" || validMark(mark) && strings.HasSuffix(*creator, " #"+mark))
		}
	})
}

func wellFormed(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// FuzzObject: members are what package json finds.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { "a" : 1 , "b":[{"a":2}],"a" :{"b":"}"} } `, `{"\u0061":"\"","b":"\\"}`, `{"a":-1.5e3}`, "{\"a\"\n:\ttrue\r}", `{"":{},"a":[]}`, `{"A":1}`,
	} {
		f.Add([]byte(seed), "a")
	}
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		o, err := decodeObject(body)
		if err != nil {
			requireBadRequest(t, err)
			return
		}
		var want map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &want))
		for member, raw := range want {
			require.Equal(t, string(raw), string(o.member(member)), member)
			text, isText := unquote(raw)
			var s string
			require.Equal(t, raw[0] == '"' && json.Unmarshal(raw, &s) == nil, isText)
			require.Equal(t, s, text)
		}
		require.Equal(t, string(want[name]), string(o.member(name)))
	})
}

// requireBadRequest: the caller's error, in words that can be put into an answer.
func requireBadRequest(t *testing.T, err error) {
	t.Helper()
	var bad *badRequest
	require.True(t, errors.As(err, &bad))
	require.Equal(t, 400, bad.status)
	require.NotEmpty(t, bad.message)
	require.True(t, json.Valid(appendError(nil, bad.status, bad.message)))
}

func FuzzDecodeUpdate(f *testing.F) {
	for _, seed := range []string{
		`{"creator":null,"expires_at":null}`, `{}`, `{"creator":"x","expires_at":"2099-12-31T12:34:56.789000+00:00"}`,
		`{"expires_at":"0001-01-01T00:00:00Z"}`, `{"expires_at":"0001-01-01T00:00:00+00:01"}`, `{"expires_at":"9999-12-31T23:59:60Z"}`,
		`{"expires_at":"2099-12-31 12:34:60.999999999z"}`, `{"expires_at":""}`, `{"expires_at":0}`, `{"expires_at":"2099-12-31T24:00:00Z"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		change, err := decodeUpdate(body)
		if err != nil {
			requireBadRequest(t, err)
			return
		}
		require.Nil(t, change.Lease)
		require.Zero(t, change.Extend)
		if change.ExpiresAt == nil {
			return
		}
		at := *change.ExpiresAt
		require.True(t, inRange(at))
		require.Zero(t, at.Nanosecond()%1000)
		var again time.Time
		require.NoError(t, json.Unmarshal(appendTime(nil, at), &again))
		require.Equal(t, at, again)
	})
}

func FuzzDecodeSeconds(f *testing.F) {
	for _, seed := range []string{
		`{"seconds":360.0}`, `{"seconds":0}`, `{"seconds":-1.5e-3}`, `{"seconds":3155760000}`, `{"seconds":-3155760000.000001}`,
		`{"seconds":1e309}`, `{"seconds":1E-400}`, `{"seconds":-0.0}`, `{"seconds":NaN}`, `{"seconds":"1"}`, `{"seconds":null}`, `{"seconds":true}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := decodeSeconds(body)
		if err != nil {
			requireBadRequest(t, err)
			return
		}
		require.LessOrEqual(t, math.Abs(d.Seconds()), maxSeconds)
		require.Zero(t, d%time.Microsecond)
	})
}

func FuzzPreferredWait(f *testing.F) {
	for _, seed := range []string{
		"wait=30", "WAIT=1", "respond-async, wait=10", `a="b, wait=3", wait="4"; x`, `wait`, `wait=`, `"`, `\`, `wait="`, ",,;=,", `a="\`,
	} {
		f.Add(seed, "wait=5")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		d := preferredWait([]string{first, second})
		require.True(t, 0 <= d && d <= 30*time.Second && d%time.Second == 0)
	})
}

// FuzzLockJSON: what is written by hand is what package json would understand.
func FuzzLockJSON(f *testing.F) {
	f.Add("robot-arm-1", "bench-7", int64(1730405683931300), uint64(7))
	f.Add("\"\\/<&>\u2028\x7f", "\xff\x00", int64(-62135596800000000), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, name, creator string, micros int64, token uint64) {
		at := time.UnixMicro(micros).UTC()
		if !inRange(at) {
			return
		}
		l := Lock{ID: "950daa20-a814-451e-9407-ec496cf9c136", Name: name, Creator: &creator, IP: "::1", ExpiresAt: at, CreatedAt: at, UpdatedAt: at, FencingToken: token}
		type members struct {
			ID        string    `json:"id"`
			Name      string    `json:"lock_name"`
			Creator   *string   `json:"creator"`
			IP        string    `json:"ip"`
			ExpiresAt time.Time `json:"expires_at"`
			CreatedAt time.Time `json:"created_at"`
			UpdatedAt time.Time `json:"updated_at"`
			Token     uint64    `json:"fencing_token"`
			Waiters   int       `json:"waiters"`
		}
		var got members
		require.NoError(t, json.Unmarshal(appendLock(nil, &l, true, 3), &got))
		valid := strings.ToValidUTF8(creator, "\ufffd")
		if utf8.ValidString(name) && utf8.ValidString(creator) {
			require.Equal(t, members{l.ID, name, &valid, "::1", at, at, at, token, 3}, got)
		}
	})
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := newID()
		require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, id)
		require.False(t, seen[id])
		seen[id] = true
		lower, ok := parseID(strings.ToUpper(id))
		require.True(t, ok)
		require.Equal(t, id, lower)
	}
	for _, s := range []string{"", "x", "950daa20a814451e9407ec496cf9c136", "{950daa20-a814-451e-9407-ec496cf9c136}",
		"950daa20-a814-451e-9407-ec496cf9c13", "950daa20-a814-451e-9407_ec496cf9c136", "950daa20-a814-451e-9407-ec496cf9c13ä"} {
		_, ok := parseID(s)
		require.False(t, ok, s)
	}
}
