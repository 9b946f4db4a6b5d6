package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What our backend accepts. Others may have other limits, so a client checks
// none of them.
const (
	maxName    = 255  // bytes
	maxCreator = 1024 // bytes

	// maxSeconds, 100 years, keeps each sum of a time and a number of seconds
	// well within what a time can hold.
	maxSeconds = 100 * 365.25 * 24 * 3600
)

// RequestError says what is wrong with a request, in words for the client that
// sent it. The backend's answer to it is 400.
type RequestError struct{ Message string }

func (e *RequestError) Error() string { return "relukko: " + e.Message }

func invalid(format string, args ...any) error {
	return &RequestError{fmt.Sprintf(format, args...)}
}

// AppendCreate appends the body of a create. The strings must be valid UTF-8.
func AppendCreate(b []byte, name string, creator *string) []byte {
	b = append(b, `{"lock_name":`...)
	b = appendString(b, name)
	b = append(b, `,"creator":`...)
	b = appendStringOrNull(b, creator)
	return append(b, '}')
}

// DecodeCreate returns what the body of a create asks for. A creator that is
// missing or null is nil. The error is a [*RequestError].
func DecodeCreate(body []byte) (name string, creator *string, err error) {
	var rawName, rawCreator []byte
	s := scan(body)
	count := s.fields(field{"lock_name", &rawName}, field{"creator", &rawCreator})
	if err = s.check("body", count >= 0); err != nil {
		return "", nil, err
	}
	if isNull(rawName) {
		return "", nil, invalid("lock_name must be a string, it is missing or null")
	}
	if name, err = decodeText("lock_name", rawName, 1, maxName); err != nil {
		return "", nil, err
	}
	creator, err = decodeCreator(rawCreator)
	return name, creator, err
}

// Update is what an update asks for: nil keeps the value.
type Update struct {
	Creator   *string
	ExpiresAt *time.Time // in UTC, with whole microseconds where it was decoded
}

// AppendUpdate appends the body of an update. The creator must be valid UTF-8,
// the time within the years 0 to 9999.
func AppendUpdate(b []byte, u Update) []byte {
	b = append(b, `{"creator":`...)
	b = appendStringOrNull(b, u.Creator)
	b = append(b, `,"expires_at":`...)
	if u.ExpiresAt == nil {
		b = append(b, "null"...)
	} else {
		b = appendTime(b, *u.ExpiresAt)
	}
	return append(b, '}')
}

// DecodeUpdate returns what the body of an update asks for. The error is a
// [*RequestError].
func DecodeUpdate(body []byte) (Update, error) {
	var creator, expires []byte
	s := scan(body)
	count := s.fields(field{"creator", &creator}, field{"expires_at", &expires})
	err := s.check("body", count >= 0)
	if err != nil {
		return Update{}, err
	}
	var u Update
	if u.Creator, err = decodeCreator(creator); err != nil {
		return Update{}, err
	}
	if !isNull(expires) {
		t, err := expiryOf(expires)
		if err != nil {
			return Update{}, err
		}
		u.ExpiresAt = &t
	}
	return u, nil
}

// AppendSeconds appends the body of keep_alive and add_to_expire_at.
func AppendSeconds(b []byte, d time.Duration) []byte {
	b = append(b, `{"seconds":`...)
	b = appendSeconds(b, d)
	return append(b, '}')
}

// DecodeSeconds returns what the body of keep_alive and add_to_expire_at asks
// for, rounded to microseconds. The error is a [*RequestError].
func DecodeSeconds(body []byte) (time.Duration, error) {
	var raw []byte
	s := scan(body)
	count := s.fields(field{"seconds", &raw})
	if err := s.check("body", count >= 0); err != nil {
		return 0, err
	}
	if k := kindOf(raw); k != '-' && (k < '0' || k > '9') {
		return 0, invalid("seconds must be a number")
	}
	d, ok := parseSeconds(string(raw), -maxSeconds, maxSeconds)
	if !ok {
		return 0, invalid("seconds must be between %d and %d",
			-int64(maxSeconds), int64(maxSeconds))
	}
	return d, nil
}

// check returns what is wrong with the text that was read to its end, which must be an object.
// what is the text's name.
func (s *scanner) check(what string, object bool) error {
	switch {
	case !utf8.Valid(s.text): // encoding/json would replace what is not
		return invalid("the %s is not valid UTF-8", what)
	case !s.end():
		err := json.Unmarshal(s.text, new(json.RawMessage))
		return invalid("the %s is not valid JSON: %v", what, err)
	case !object:
		return invalid("the %s must be a JSON object", what)
	}
	return nil
}

func decodeCreator(raw []byte) (*string, error) {
	if isNull(raw) {
		return nil, nil
	}
	creator, err := decodeText("creator", raw, 0, maxCreator)
	if err != nil {
		return nil, err
	}
	return &creator, nil
}

func decodeText(member string, raw []byte, minimum, maximum int) (string, error) {
	s, ok := text(raw)
	if !ok {
		return "", invalid("%s must be a string", member)
	}
	if len(s) < minimum || len(s) > maximum {
		return "", invalid("%s must have %d to %d bytes, it has %d",
			member, minimum, maximum, len(s))
	}
	if strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return "", invalid("%s must not contain control characters", member)
	}
	return s, nil
}

// expiryOf reads the time in a request: all that RFC 3339 allows, also small
// letters, a space between date and time, and leap seconds. It returns it in
// UTC and cuts off what is finer than a microsecond.
func expiryOf(raw []byte) (time.Time, error) {
	s, ok := text(raw)
	if !ok {
		return time.Time{}, invalid("expires_at must be a string with an RFC 3339 time, or null")
	}
	const dateLen, secondsAt = len("2006-01-02"), len("2006-01-02T15:04:")
	form := []byte(strings.ToUpper(s))
	if len(form) > dateLen && form[dateLen] == ' ' {
		form[dateLen] = 'T'
	}
	var leap time.Duration
	if len(form) > secondsAt+1 && string(form[secondsAt:secondsAt+2]) == "60" {
		form[secondsAt], form[secondsAt+1] = '5', '9'
		leap = time.Second
	}
	t, err := time.Parse(time.RFC3339Nano, string(form))
	if err != nil {
		return time.Time{}, invalid(
			"expires_at must be an RFC 3339 time, like 2099-12-31T12:34:56.789Z")
	}
	t = t.Add(leap).UTC().Truncate(time.Microsecond)
	if !TimeInRange(t) {
		return time.Time{}, invalid("expires_at must lie within the years 1 to 9999")
	}
	return t, nil
}
