package wire

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// The scanner walks JSON that json.Valid has accepted. It copies nothing, so
// that 64 MiB of odd JSON cost no more memory than they are long, and it
// matches members by their exact names, which encoding/json does not. It
// relies on the validity and never looks for errors.

// members walks the members of an object.
//
//	for m := membersOf(raw); m.next(); { … string(m.name) … m.value … }
type members struct {
	rest  []byte
	name  []byte // decoded
	value []byte // raw
}

// membersOf returns no members for anything but an object.
func membersOf(raw []byte) members {
	if kindOf(raw) != '{' {
		return members{}
	}
	return members{rest: raw[1:]}
}

func (m *members) next() bool {
	rest := skipComma(m.rest)
	if rest == nil {
		return false
	}
	n := stringLen(rest)
	var ok bool
	if m.name, ok = plain(rest[:n]); !ok {
		name, _ := text(rest[:n])
		m.name = []byte(name)
	}
	rest = trimSpace(trimSpace(rest[n:])[1:]) // after the colon
	n = valueLen(rest)
	m.value, m.rest = rest[:n], rest[n:]
	return true
}

// elements walks the elements of an array.
type elements struct {
	rest  []byte
	value []byte // raw
}

// elementsOf returns no elements for anything but an array.
func elementsOf(raw []byte) elements {
	if kindOf(raw) != '[' {
		return elements{}
	}
	return elements{rest: raw[1:]}
}

func (e *elements) next() bool {
	rest := skipComma(e.rest)
	if rest == nil {
		return false
	}
	n := valueLen(rest)
	e.value, e.rest = rest[:n], rest[n:]
	return true
}

// skipComma skips space and a comma. It returns nil at the end of the object
// or array.
func skipComma(b []byte) []byte {
	b = trimSpace(b)
	if len(b) > 0 && b[0] == ',' {
		b = trimSpace(b[1:])
	}
	if len(b) == 0 || b[0] == ']' || b[0] == '}' {
		return nil
	}
	return b
}

// kindOf returns the first character of a value without space around it: one
// of { [ " t f n, a digit or minus; 0 for no value.
func kindOf(raw []byte) byte {
	if len(raw) == 0 {
		return 0
	}
	return raw[0]
}

func isNull(raw []byte) bool {
	k := kindOf(raw)
	return k == 0 || k == 'n'
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// valueLen returns the length of the value that b begins with. It does not
// recurse, whatever the depth.
func valueLen(b []byte) int {
	if b[0] == '"' {
		return stringLen(b)
	}
	if b[0] != '{' && b[0] != '[' {
		for i, c := range b {
			switch c {
			case ',', ']', '}', ' ', '\n', '\r', '\t':
				return i
			}
		}
		return len(b)
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += stringLen(b[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(b)
}

func stringLen(b []byte) int {
	n := bytes.IndexByte(b[1:], '"') + 2
	if bytes.IndexByte(b[1:n], '\\') < 0 {
		return n
	}
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// plain returns the inside of a string that needs no decoding.
func plain(raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, false
	}
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') >= 0 || !utf8.Valid(inner) {
		return nil, false
	}
	return inner, true
}

// text decodes a string. It returns false for any other value.
func text(raw []byte) (string, bool) {
	if kindOf(raw) != '"' {
		return "", false
	}
	if inner, ok := plain(raw); ok {
		return string(inner), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// textLike is text, but returns like itself where it is equal.
func textLike(raw []byte, like string) (string, bool) {
	if inner, ok := plain(raw); ok && string(inner) == like {
		return like, true
	}
	return text(raw)
}

// appendString appends s as a JSON string that is safe within HTML, as
// encoding/json writes it.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c >= utf8.RuneSelf, c == '"', c == '\\', c == '<', c == '>', c == '&':
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendStringOrNull appends null for nil.
func appendStringOrNull(b []byte, s *string) []byte {
	if s == nil {
		return append(b, "null"...)
	}
	return appendString(b, *s)
}
