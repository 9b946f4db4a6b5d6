package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxBody    = 64 << 10
	maxName    = 255  // bytes
	maxCreator = 1024 // bytes
	maxMark    = 64   // bytes

	// maxSeconds keeps every sum of a time and a number of seconds well within what a time can hold: 100 years.
	maxSeconds = 100 * 365.25 * 24 * 3600
)

func bad(format string, args ...any) error {
	return &badRequest{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func readCreate(w http.ResponseWriter, r *http.Request) (name string, creator *string, err error) {
	body, err := readBody(w, r)
	if err != nil {
		return "", nil, err
	}
	return decodeCreate(body)
}

func readUpdate(w http.ResponseWriter, r *http.Request) (Change, error) {
	body, err := readBody(w, r)
	if err != nil {
		return Change{}, err
	}
	return decodeUpdate(body)
}

// readSeconds answers what a PUT asks for and what a GET always gets.
func readSeconds(w http.ResponseWriter, r *http.Request) (time.Duration, error) {
	if r.Method == http.MethodGet {
		return defaultTTL, nil
	}
	body, err := readBody(w, r)
	if err != nil {
		return 0, err
	}
	return decodeSeconds(body)
}

// readBody reads the body to its end: only then does net/http watch for the caller going away.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &tooLarge):
		return nil, &badRequest{http.StatusRequestEntityTooLarge, "the body is larger than 64 KiB"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &badRequest{http.StatusRequestTimeout, "the body did not arrive in time"}
	default:
		return nil, bad("the body is cut short")
	}
}

func decodeCreate(body []byte) (name string, creator *string, err error) {
	o, err := decodeObject(body)
	if err != nil {
		return "", nil, err
	}
	lockName, err := text(o, "lock_name", 1, maxName)
	if err != nil {
		return "", nil, err
	}
	if lockName == nil {
		return "", nil, bad("lock_name must be a string, it is missing or null")
	}
	creator, err = text(o, "creator", 0, maxCreator)
	return *lockName, creator, err
}

func decodeUpdate(body []byte) (change Change, err error) {
	o, err := decodeObject(body)
	if err != nil {
		return change, err
	}
	if change.Creator, err = text(o, "creator", 0, maxCreator); err != nil {
		return change, err
	}
	if raw := o.member("expires_at"); !isNull(raw) {
		expires, err := decodeTime(raw)
		if err != nil {
			return change, err
		}
		change.ExpiresAt = &expires
	}
	return change, nil
}

func decodeSeconds(body []byte) (time.Duration, error) {
	o, err := decodeObject(body)
	if err != nil {
		return 0, err
	}
	raw := o.member("seconds")
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, bad("seconds must be a number")
	}
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.Abs(seconds) > maxSeconds { // a JSON number that does not parse is too large
		return 0, bad("seconds must be between %d and %d", -int64(maxSeconds), int64(maxSeconds))
	}
	return time.Duration(math.Round(seconds*1e6)) * time.Microsecond, nil
}

// decodeObject answers a body that is a JSON object. Which of its members mean anything is up to the caller.
func decodeObject(body []byte) (object, error) {
	if !utf8.Valid(body) { // package json would mend it silently
		return nil, bad("the body is not valid UTF-8")
	}
	if !json.Valid(body) {
		return nil, bad("the body is not valid JSON: %v", json.Unmarshal(body, new(json.RawMessage)))
	}
	if body = skipSpace(body); body[0] != '{' {
		return nil, bad("the body must be a JSON object")
	}
	return body, nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || raw[0] == 'n' }

// text answers a string member; nil when it is missing or null.
func text(o object, member string, minimum, maximum int) (*string, error) {
	raw := o.member(member)
	if isNull(raw) {
		return nil, nil
	}
	s, ok := unquote(raw)
	if !ok {
		return nil, bad("%s must be a string", member)
	}
	if len(s) < minimum || len(s) > maximum {
		return nil, bad("%s must have %d to %d bytes, it has %d", member, minimum, maximum, len(s))
	}
	if strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return nil, bad("%s must not contain control characters", member)
	}
	return &s, nil
}

// decodeTime understands all that RFC 3339 allows: also small letters, a space between date and time, and leap
// seconds. What is finer than a microsecond is cut off.
func decodeTime(raw json.RawMessage) (time.Time, error) {
	s, ok := unquote(raw)
	if !ok {
		return time.Time{}, bad("expires_at must be a string with a time as in RFC 3339, or null")
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
		return time.Time{}, bad("expires_at must be a time as in RFC 3339, like 2099-12-31T12:34:56.789Z")
	}
	t = t.Add(leap).UTC().Truncate(time.Microsecond)
	if !inRange(t) {
		return time.Time{}, bad("expires_at must lie within the years 1 to 9999")
	}
	return t, nil
}

// markOf answers the mark at the end of a creator, as in "user@host/42 #k3v9x2m4q7ab"; empty where there is none.
func markOf(creator string) string {
	i := strings.LastIndex(creator, " #")
	if i < 0 || !validMark(creator[i+2:]) {
		return ""
	}
	return creator[i+2:]
}

func validMark(s string) bool {
	if len(s) == 0 || len(s) > maxMark {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
