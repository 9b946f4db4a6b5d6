package server

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// Lock is a lock as the store holds it. Its times are in UTC and have whole microseconds.
type Lock struct {
	ID           string // a UUID in lower case
	Name         string
	Creator      *string // nil: null
	IP           string  // who created it: the peer's address without the port
	ExpiresAt    time.Time
	CreatedAt    time.Time
	UpdatedAt    time.Time
	FencingToken uint64 // greater than that of every earlier lock of the same name
}

// MarshalJSON answers the lock as it goes over the wire.
func (l Lock) MarshalJSON() ([]byte, error) { return appendLock(nil, &l, true, -1), nil }

// appendLock appends the lock in JSON: with its fencing token if asked for, and with the number of its waiters unless
// that is negative. By hand, because it is in every answer.
func appendLock(b []byte, l *Lock, token bool, waiters int) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, l.ID)
	b = append(b, `,"lock_name":`...)
	b = appendString(b, l.Name)
	b = append(b, `,"creator":`...)
	if l.Creator == nil {
		b = append(b, `null`...)
	} else {
		b = appendString(b, *l.Creator)
	}
	b = append(b, `,"ip":`...)
	b = appendString(b, l.IP)
	b = append(b, `,"expires_at":`...)
	b = appendTime(b, l.ExpiresAt)
	b = append(b, `,"created_at":`...)
	b = appendTime(b, l.CreatedAt)
	b = append(b, `,"updated_at":`...)
	b = appendTime(b, l.UpdatedAt)
	if token {
		b = append(b, `,"fencing_token":`...)
		b = strconv.AppendUint(b, l.FencingToken, 10)
	}
	if waiters >= 0 {
		b = append(b, `,"waiters":`...)
		b = strconv.AppendInt(b, int64(waiters), 10)
	}
	return append(b, '}')
}

func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, `"2006-01-02T15:04:05.000000Z"`)
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// newID makes a random (version 4) UUID.
func newID() string {
	var raw [16]byte
	rand.Read(raw[:]) // never fails
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	var text [36]byte
	hex.Encode(text[0:8], raw[0:4])
	hex.Encode(text[9:13], raw[4:6])
	hex.Encode(text[14:18], raw[6:8])
	hex.Encode(text[19:23], raw[8:10])
	hex.Encode(text[24:36], raw[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return string(text[:])
}

// parseID answers the id in lower case, and whether it has the form of a UUID at all.
func parseID(s string) (string, bool) {
	if len(s) != 36 {
		return "", false
	}
	upper := false
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return "", false
			}
		case '0' <= c && c <= '9' || 'a' <= c && c <= 'f':
		case 'A' <= c && c <= 'F':
			upper = true
		default:
			return "", false
		}
	}
	if !upper {
		return s, true
	}
	lower := []byte(s)
	for i, c := range lower {
		if 'A' <= c && c <= 'F' {
			lower[i] = c + 'a' - 'A'
		}
	}
	return string(lower), true
}
