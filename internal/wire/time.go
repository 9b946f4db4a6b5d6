package wire

import (
	"bytes"
	"time"
)

// TimeInRange reports whether t can be written in RFC 3339, whose years have
// four digits.
func TimeInRange(t time.Time) bool { return 1 <= t.Year() && t.Year() <= 9999 }

// UntilReleased is the expiry of a lock that is held until somebody releases it: the last whole
// second that RFC 3339 can express.
var UntilReleased = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// appendTime appends t as a JSON string: in UTC, with as many fractional digits
// as needed and none for a whole second.
func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// timeOf reads the time in a lock: RFC 3339 with zero to nine fractional
// digits. It returns it in UTC.
func timeOf(raw []byte) (time.Time, bool) {
	text := decoded(raw)
	if !looksLikeTime(text) {
		return time.Time{}, false
	}
	var t time.Time
	if t.UnmarshalText(text) != nil {
		return time.Time{}, false
	}
	return t.UTC(), true
}

// looksLikeTime checks the form. Package time accepts more than RFC 3339 does:
// a comma, one digit for the hour, any number of fractional digits.
func looksLikeTime(b []byte) bool {
	b, ok := cutForm(b, "0000-00-00T00:00:00")
	if !ok || len(b) == 0 {
		return false
	}
	if b[0] == '.' {
		rest := bytes.TrimLeft(b[1:], "0123456789")
		digits := len(b) - 1 - len(rest)
		if digits == 0 || digits > 9 {
			return false
		}
		b = rest
	}
	if len(b) > 1 && (b[0] == '+' || b[0] == '-') {
		b, ok = cutForm(b[1:], "00:00")
		return ok && len(b) == 0
	}
	return string(b) == "Z"
}

// cutForm returns what follows form in b. A 0 in form stands for any digit.
func cutForm(b []byte, form string) ([]byte, bool) {
	if len(b) < len(form) {
		return nil, false
	}
	for i, c := range []byte(form) {
		if c == '0' && '0' <= b[i] && b[i] <= '9' {
			continue
		}
		if b[i] != c {
			return nil, false
		}
	}
	return b[len(form):], true
}
