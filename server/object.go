package server

import (
	"bytes"
	"encoding/json"
)

// object is a JSON object that is known to be valid. Its members are looked up where they are: to have package json take it
// apart costs more than all else that a create does in memory.
type object []byte

// member answers the value of a member, the last one where there are several, as it stands there; nil where there is none. Unlike
// in package json a name has to be the very same, in small letters.
func (o object) member(name string) (value json.RawMessage) {
	rest := skipSpace(o[1:])
	for rest[0] != '}' {
		var key, raw []byte
		key, rest = cutValue(rest)
		raw, rest = cutValue(skipSpace(skipSpace(rest)[1:])) // beyond the colon
		if isString(key, name) {
			value = raw
		}
		if rest = skipSpace(rest); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
	return value
}

// cutValue splits a valid value from what comes behind it.
func cutValue(b []byte) (value, rest []byte) {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return b[:i+1], b[i+1:]
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 { // the end of what this number or word is in
				return b[:i], b[i:]
			}
			if depth--; depth == 0 {
				return b[:i+1], b[i+1:]
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return b[:i], b[i:]
			}
		}
	}
	return b, nil
}

func skipSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\n\r") }

// isString tells whether a valid JSON string is s.
func isString(quoted []byte, s string) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == s
	}
	text, _ := unquote(quoted)
	return text == s
}

// unquote answers what a valid JSON value says, if it is a string.
func unquote(raw []byte) (text string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}
