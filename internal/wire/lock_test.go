package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testID   = "950daa20-a814-451e-9407-ec496cf9c136"
	testName = "robot-arm-1"
	testLock = `{"id":"950daa20-a814-451e-9407-ec496cf9c136","lock_name":"robot-arm-1",` +
		`"creator":"bench-7","ip":"10.89.0.6","expires_at":"2024-10-31T20:14:43.9313Z",` +
		`"created_at":"2024-10-31T20:04:43.9313Z","updated_at":"2024-10-31T20:04:43.9313Z"}`
)

// theLock is testLock.
func theLock() Lock {
	created := time.Date(2024, 10, 31, 20, 4, 43, 931_300_000, time.UTC)
	return Lock{
		ID: testID, Name: testName, Creator: new("bench-7"), IP: "10.89.0.6",
		ExpiresAt: created.Add(10 * time.Minute), CreatedAt: created, UpdatedAt: created,
	}
}

// decodeList returns all locks of a list.
func decodeList(body []byte) (locks []Lock, err error) {
	err = DecodeLocks(body, func(l *Lock) { locks = append(locks, *l) })
	return locks, err
}

// with returns testLock with one member changed, or left out where value is "".
func with(name, value string) string {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(testLock), &m); err != nil {
		panic(err)
	}
	delete(m, name)
	if value != "" {
		m[name] = json.RawMessage(value)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return strings.Replace(testLock, "{", `{"`+name+`":`+value+",", 1)
	}
	return string(b)
}

func TestLocksThatAreLocks(t *testing.T) {
	utc := func(hour, ns int) time.Time {
		return time.Date(2024, 10, 31, hour, 14, 43, ns,
			time.UTC)
	}
	tests := []struct {
		name, body string
		change     func(*Lock)
	}{
		{"plain", testLock, func(*Lock) {}},
		{"space around", " \r\n\t" +
			strings.ReplaceAll(strings.ReplaceAll(testLock, `":"`, "\" :\n\""), ",", " ,\t") + "\n",
			func(*Lock) {}},
		{"no creator", with("creator", "null"), func(l *Lock) { l.Creator = nil }},
		{"creator missing", with("creator", ""), func(l *Lock) { l.Creator = nil }},
		{"no ip", with("ip", "null"), func(l *Lock) { l.IP = "" }},
		{"id in capitals", with("id", `"950DAA20-A814-451E-9407-EC496CF9C136"`), func(*Lock) {}},
		{"id of zeros", with("id", `"00000000-0000-0000-0000-000000000000"`), func(l *Lock) {
			l.ID = "00000000-0000-0000-0000-000000000000"
		}},
		{"name with everything", with("lock_name", `"a\"\\\u00e4ä\ud83e\udd16 \n]}"`),
			func(l *Lock) { l.Name = "a\"\\ää🤖 \n]}" }},
		{"unknown members", with("more", `{"id":"x","a":[{},"]",{"b":"}\""}]}`), func(*Lock) {}},
		{"other cases are other members", `{"ID":"x","Lock_Name":7,` + testLock[1:],
			func(*Lock) {}},
		{"the last of two counts", `{"id":"x","lock_name":"",` + testLock[1:], func(*Lock) {}},
		{"escaped member", strings.Replace(testLock, `"id"`, `"\u0069d"`, 1), func(*Lock) {}},
		{"no fraction", with("expires_at", `"2024-10-31T20:14:43Z"`), func(l *Lock) {
			l.ExpiresAt = utc(20, 0)
		}},
		{"nine digits", with("expires_at", `"2024-10-31T20:14:43.123456789Z"`), func(l *Lock) {
			l.ExpiresAt = utc(20, 123456789)
		}},
		{"offset", with("expires_at", `"2024-10-31T22:14:43.5+02:00"`), func(l *Lock) {
			l.ExpiresAt = utc(20, 5e8)
		}},
		{"zero offset", with("expires_at", `"2024-10-31T20:14:43.500000+00:00"`), func(l *Lock) {
			l.ExpiresAt = utc(20, 5e8)
		}},
		{"other offset", with("expires_at", `"2024-10-31T08:44:43-11:30"`), func(l *Lock) {
			l.ExpiresAt = utc(20, 0)
		}},
		{"token", with("fencing_token", "18446744073709551615"), func(l *Lock) {
			l.FencingToken = 1<<64 - 1
		}},
		{"no token", with("fencing_token", "null"), func(*Lock) {}},
		{"waiters", with("waiters", "3"), func(l *Lock) { l.Waiters, l.HasWaiters = 3, true }},
		{"odd waiters", with("waiters", `"many"`), func(*Lock) {}},
		{"negative waiters", with("waiters", "-3"), func(*Lock) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := theLock()
			tt.change(&want)
			for _, like := range []Lock{{}, want, theLock()} {
				got, err := DecodeLock([]byte(tt.body), &like)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		})
	}
}

func TestLocksThatAreNone(t *testing.T) {
	tests := []struct{ name, body, says string }{
		{"nothing", "", "it is empty"},
		{"HTML", "<!doctype html><html></html>", "it is not JSON"},
		{"cut", testLock[:len(testLock)-1], "it is not JSON"},
		{"two", testLock + testLock, "it is not JSON"},
		{"null", "null", "not a JSON object"},
		{"array", "[" + testLock + "]", "not a JSON object"},
		{"text", `"lock"`, "not a JSON object"},
		{"empty object", "{}", "its id is not a UUID: missing"},
		{"no id", with("id", ""), "its id is not a UUID: missing"},
		{"id null", with("id", "null"), "its id is not a UUID: null"},
		{"id a number", with("id", "950"), "its id is not a UUID: 950"},
		{"id in braces", with("id", `"{950daa20-a814-451e-9407-ec496cf9c136}"`), "not a UUID"},
		{"id without hyphens", with("id", `"950daa20a814451e9407ec496cf9c136"`), "not a UUID"},
		{"id with a letter too many", with("id", `"950daa20-a814-451e-9407-ec496cf9c1366"`),
			"not a UUID"},
		{"id with g", with("id", `"g50daa20-a814-451e-9407-ec496cf9c136"`), "not a UUID"},
		{"name missing", with("lock_name", ""), "lock_name"},
		{"name empty", with("lock_name", `""`), "lock_name"},
		{"name null", with("lock_name", "null"), "lock_name"},
		{"name a number", with("lock_name", "1"), "lock_name"},
		{"creator a number", with("creator", "1"), "its creator is neither null nor a string"},
		{"creator false", with("creator", "false"), "creator"},
		{"ip an object", with("ip", "{}"), "ip"},
		{"no expiry", with("expires_at", ""), "its expires_at is not an RFC 3339 time: missing"},
		{"expiry null", with("expires_at", "null"), "expires_at"},
		{"expiry a number", with("expires_at", "1730405683"), "expires_at"},
		{"expiry without offset", with("expires_at", `"2024-10-31T20:14:43"`), "expires_at"},
		{"expiry with a space", with("expires_at", `"2024-10-31 20:14:43Z"`), "expires_at"},
		{"expiry on no day", with("expires_at", `"2024-02-30T20:14:43Z"`), "expires_at"},
		{"expiry with ten digits", with("expires_at", `"2024-10-31T20:14:43.1234567890Z"`),
			"expires_at"},
		{"expiry with a comma", with("expires_at", `"2024-10-31T20:14:43,5Z"`), "expires_at"},
		{"expiry with no digits", with("expires_at", `"2024-10-31T20:14:43.Z"`), "expires_at"},
		{"expiry in 292277", with("expires_at", `"292277-10-31T20:14:43Z"`), "expires_at"},
		{"expiry in +292277", with("expires_at", `"+292277-10-31T20:14:43Z"`), "expires_at"},
		{"creation empty", with("created_at", `""`), "created_at"},
		{"no update", with("updated_at", ""), "updated_at"},
		{"token zero", with("fencing_token", "0"), "fencing_token"},
		{"token negative", with("fencing_token", "-1"), "fencing_token"},
		{"token broken", with("fencing_token", "1.5"), "fencing_token"},
		{"token as text", with("fencing_token", `"7"`), "fencing_token"},
		{"token too large", with("fencing_token", "18446744073709551616"), "fencing_token"},
		{"deep", strings.Repeat("[", 1<<20), "not JSON"},
		{"deep inside", with("more", strings.Repeat("[", 20000)+strings.Repeat("]", 20000)),
			"not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeLock([]byte(tt.body), &Lock{})
			require.ErrorContains(t, err, tt.says)
			_, err = decodeList([]byte("[" + tt.body + "]"))
			if tt.body != "" {
				require.Error(t, err)
			}
		})
	}
	for _, body := range []string{"", "{}", "null", testLock, "[", `"[]"`} {
		_, err := decodeList([]byte(body))
		require.Error(t, err, body)
	}
}
