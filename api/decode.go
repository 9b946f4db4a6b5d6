package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var errNotJSON = errors.New("it is not JSON")

// decodeLock returns the lock in body, which like is expected to resemble:
// strings that are equal are shared.
func decodeLock(body []byte, like *Lock) (Lock, error) {
	if len(body) == 0 {
		return Lock{}, errors.New("it is empty")
	}
	if !json.Valid(body) {
		return Lock{}, errNotJSON
	}
	return lockOf(bytes.TrimSpace(body), like)
}

// decodeList returns the locks in body. One element that is no lock makes all
// of it an error: what a backend like that says about the others is worth nothing.
func decodeList(body []byte) ([]Lock, error) {
	if !json.Valid(body) {
		return nil, errNotJSON
	}
	body = bytes.TrimSpace(body)
	if kindOf(body) != '[' {
		return nil, errors.New("it is not a JSON array")
	}
	locks := []Lock{}
	for e := elementsOf(body); e.next(); {
		l, err := lockOf(e.value, &Lock{})
		if err != nil {
			return nil, fmt.Errorf("element %d is not a lock: %w", len(locks), err)
		}
		locks = append(locks, l)
	}
	return locks, nil
}

// lockOf returns the lock in raw, which is valid JSON. Members that it does
// not know are ignored; of those that come twice the last one counts.
func lockOf(raw []byte, like *Lock) (Lock, error) {
	if kindOf(raw) != '{' {
		return Lock{}, errors.New("it is not a JSON object")
	}
	var id, name, creator, ip, expires, created, updated, token, waiters []byte
	for m := membersOf(raw); m.next(); {
		switch string(m.name) {
		case "id":
			id = m.value
		case "lock_name":
			name = m.value
		case "creator":
			creator = m.value
		case "ip":
			ip = m.value
		case "expires_at":
			expires = m.value
		case "created_at":
			created = m.value
		case "updated_at":
			updated = m.value
		case "fencing_token":
			token = m.value
		case "waiters":
			waiters = m.value
		}
	}
	var l Lock
	var err error
	if l.ID, err = idOf(id, like.ID); err != nil {
		return Lock{}, err
	}
	var ok bool
	if l.Name, ok = textLike(name, like.Name); !ok || l.Name == "" {
		return Lock{}, errors.New("its lock_name is missing, empty or not a string")
	}
	if l.Creator, ok = textOrNull(creator, like.Creator); !ok {
		return Lock{}, errors.New("its creator is neither null nor a string")
	}
	if l.IP, ok = textOrNull(ip, like.IP); !ok {
		return Lock{}, errors.New("its ip is neither null nor a string")
	}
	for _, t := range [...]struct {
		name string
		raw  []byte
		to   *time.Time
	}{{"expires_at", expires, &l.ExpiresAt}, {"created_at", created, &l.CreatedAt}, {"updated_at", updated, &l.UpdatedAt}} {
		if *t.to, ok = timeOf(t.raw); !ok {
			return Lock{}, fmt.Errorf("its %s is not an RFC 3339 time: %s", t.name, excerpt(t.raw))
		}
	}
	if l.FencingToken, ok = tokenOf(token); !ok {
		return Lock{}, fmt.Errorf("its fencing_token is not a positive integer: %s", excerpt(token))
	}
	if len(waiters) > 0 { // for information only: nothing depends on it
		l.Waiters, _ = strconv.Atoi(string(waiters))
		l.Waiters = max(l.Waiters, 0)
	}
	return l, nil
}

func idOf(raw []byte, like string) (string, error) {
	inner, _ := plain(raw)
	if like != "" && string(inner) == like {
		return like, nil
	}
	if id, ok := parseID(string(inner)); ok {
		return id, nil
	}
	return "", fmt.Errorf("its id is not a UUID: %s", excerpt(raw))
}

// parseID returns the UUID s in lower case.
func parseID(s string) (string, bool) {
	if len(s) != 36 {
		return "", false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return "", false
			}
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F':
		default:
			return "", false
		}
	}
	return strings.ToLower(s), true
}

// textLike is text, but shares like where it is equal.
func textLike(raw []byte, like string) (string, bool) {
	if inner, ok := plain(raw); ok && string(inner) == like {
		return like, true
	}
	return text(raw)
}

func textOrNull(raw []byte, like string) (string, bool) {
	if k := kindOf(raw); k == 0 || k == 'n' {
		return "", true
	}
	return textLike(raw, like)
}

// timeOf reads an RFC 3339 time with zero to nine fractional digits, in UTC.
func timeOf(raw []byte) (time.Time, bool) {
	inner, _ := plain(raw)
	if !looksLikeTime(inner) {
		return time.Time{}, false
	}
	var t time.Time
	if t.UnmarshalText(inner) != nil {
		return time.Time{}, false
	}
	return t.UTC(), true
}

// looksLikeTime checks the form, where package time accepts more than RFC 3339
// does: a comma, one digit for the hour, any number of digits behind the point.
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

// cutForm returns what follows form in b; 0 in it stands for any digit.
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

func tokenOf(raw []byte) (uint64, bool) {
	if k := kindOf(raw); k == 0 || k == 'n' {
		return 0, true
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	return n, err == nil && n > 0
}

// truthy is the truth of a JSON value as Python sees it, whose programs speak this API too.
func truthy(raw []byte) bool {
	switch kindOf(raw) {
	case 0, 'f', 'n':
		return false
	case 't':
		return true
	case '"':
		return len(raw) > 2
	case '{', '[':
		return len(trimSpace(raw[1:])) > 1
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	return err != nil || f != 0 // too large for a float is infinite
}

// errorOf makes e of the body of an answer that is not a 2xx. oneLock: what
// was asked is about one lock.
func (e *Error) errorOf(body []byte, oneLock bool) {
	e.Message = string(body)
	if !json.Valid(body) {
		return
	}
	var status, message, lock []byte
	count := 0
	for m := membersOf(bytes.TrimSpace(body)); m.next(); count++ {
		switch string(m.name) {
		case "status":
			status = m.value
		case "message":
			message = m.value
		case "lock":
			lock = m.value
		}
	}
	said, ok := text(message)
	if !ok {
		return
	}
	e.Message = said
	if e.Status == http.StatusConflict && lock != nil {
		if holder, err := lockOf(lock, &Lock{}); err == nil {
			e.Holder = &holder
		}
	}
	members := 2
	if lock != nil {
		members++
	}
	if n, err := strconv.ParseFloat(string(status), 64); err == nil && count == members {
		e.Own = n == float64(e.Status)
	}
	if n, err := strconv.ParseFloat(string(status), 64); err == nil && oneLock && count == 2 {
		e.gone = goneStatus(e.Status) && (n == http.StatusNotFound || n == http.StatusUnprocessableEntity)
	}
}

func goneStatus(status int) bool {
	return status == http.StatusNotFound || status == http.StatusUnprocessableEntity
}

const maxMessage = 256 // bytes of a message that end up in an error

// harmless makes s fit to be printed on one line: what is not printable and
// what is space becomes one space, and what is beyond max bytes is left out.
func harmless(s string, max int) string {
	var b strings.Builder
	space := false
	for _, r := range s {
		if r == ' ' || !unicode.IsPrint(r) {
			space = b.Len() > 0
			continue
		}
		n := utf8.RuneLen(r)
		if space {
			n++
		}
		if b.Len()+n > max-len("…") {
			return b.String() + "…"
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// excerpt is a JSON value for a message.
func excerpt(raw []byte) string {
	if len(raw) == 0 {
		return "missing"
	}
	return harmless(string(raw[:min(len(raw), 100)]), 64)
}
