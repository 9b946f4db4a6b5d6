package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may be nested, as in encoding/json.
const maxDepth = 10_000

// A scanner reads a JSON text from front to back and checks it on the way. It copies nothing, so
// that 64 MiB of odd JSON cost no more memory than they are long, and it matches members by their
// exact names, which encoding/json does not.
//
//	s := scan(text)
//	if s.object() {
//		for s.member() {
//			raw := s.value() // or object, or array: what is the value of the member s.name
//		}
//	}
//	if !s.end() { … } // not JSON
//
// What was read may be used before end, but counts only if end returns true.
type scanner struct {
	text  []byte
	at    int
	name  []byte // of the member, decoded
	plain bool   // the last string is ASCII without escapes
	depth int
	first bool // nothing was read yet of the object or array that was begun last
	bad   bool // the text is not JSON, and at is its end
}

func scan(text []byte) scanner { return scanner{text: text} }

// end reports whether the text was valid JSON and all of it was read.
func (s *scanner) end() bool { return s.kind() == 0 && !s.bad && s.at == len(s.text) }

func (s *scanner) fail() {
	s.bad = true
	s.at = len(s.text)
}

// kind returns the first character of what comes next, after space. For a value it is one of
// { [ " t f n, a digit or minus. It is 0 at the end.
func (s *scanner) kind() byte {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\n', '\r', '\t':
		default:
			return c
		}
	}
	return 0
}

// object begins an object. Any other value it skips, and returns false.
func (s *scanner) object() bool { return s.begin('{') }

// array begins an array. Any other value it skips, and returns false.
func (s *scanner) array() bool { return s.begin('[') }

func (s *scanner) begin(bracket byte) bool {
	if s.kind() != bracket {
		s.value()
		return false
	}
	s.at++
	s.first = true
	if s.depth++; s.depth > maxDepth {
		s.fail()
	}
	return !s.bad
}

// member reads the name of the next member of the object. It returns false at the object's end.
func (s *scanner) member() bool {
	raw, ok := s.memberName()
	if !ok {
		return false
	}
	if s.name = raw[1 : len(raw)-1]; !s.plain {
		s.name = decoded(raw)
	}
	return true
}

func (s *scanner) memberName() (raw []byte, ok bool) {
	if !s.more('}') {
		return nil, false
	}
	if s.kind() != '"' {
		s.fail()
		return nil, false
	}
	raw = s.str()
	if s.kind() != ':' {
		s.fail()
		return nil, false
	}
	s.at++
	return raw, true
}

// element moves to the next element of the array. It returns false at the array's end.
func (s *scanner) element() bool { return s.more(']') }

func (s *scanner) more(bracket byte) bool {
	first := s.first
	s.first = false
	switch c := s.kind(); {
	case c == bracket:
		s.at++
		s.depth--
		return false
	case first:
		return !s.bad
	case c == ',':
		s.at++
		return true
	}
	s.fail()
	return false
}

// value reads a value of any kind. It returns the text of it, without space around; nil if it is
// not JSON.
func (s *scanner) value() []byte {
	kind, from := s.kind(), s.at
	switch kind {
	case '"':
		s.str()
	case '{':
		if s.object() {
			for ok := true; ok; {
				if _, ok = s.memberName(); ok {
					s.value()
				}
			}
		}
	case '[':
		if s.array() {
			for s.element() {
				s.value()
			}
		}
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.number()
	}
	if s.bad {
		return nil
	}
	return s.text[from:s.at]
}

// field is a member of an object, and where its value goes.
type field struct {
	name string
	raw  *[]byte
}

// fields reads an object, and sets the values of these members; of several with one name the last
// counts. It returns the number of all members. Any other value it skips, and returns -1.
func (s *scanner) fields(known ...field) (count int) {
	if !s.object() {
		return -1
	}
	for ; s.member(); count++ {
		value := s.value()
		for i := range known {
			if string(s.name) == known[i].name {
				*known[i].raw = value
				break
			}
		}
	}
	return count
}

func (s *scanner) literal(want string) {
	if !bytes.HasPrefix(s.text[s.at:], []byte(want)) {
		s.fail()
		return
	}
	s.at += len(want)
}

func (s *scanner) number() {
	s.accept('-', '-')
	ok := s.accept('0', '0') || s.digits()
	if s.accept('.', '.') {
		ok = s.digits() && ok
	}
	if s.accept('e', 'E') {
		s.accept('+', '-')
		ok = s.digits() && ok
	}
	if !ok {
		s.fail()
	}
}

func (s *scanner) digits() bool {
	from := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > from
}

// accept reads one of two characters, if it comes next.
func (s *scanner) accept(a, b byte) bool {
	if s.at == len(s.text) || s.text[s.at] != a && s.text[s.at] != b {
		return false
	}
	s.at++
	return true
}

// str reads a string, which begins here.
func (s *scanner) str() []byte {
	s.plain = true
	for i := s.at + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			raw := s.text[s.at : i+1]
			s.at = i + 1
			return raw
		case c >= utf8.RuneSelf:
			s.plain = false
		case c == '\\':
			s.plain = false
			i += escapeLen(s.text[i+1:])
		case c < ' ':
			s.fail()
			return nil
		}
	}
	s.fail()
	return nil
}

// escapeLen returns the length of the escape sequence after a backslash. For an invalid one it is
// more than there is of the text.
func escapeLen(b []byte) int {
	invalid := len(b) + 1
	if len(b) == 0 {
		return invalid
	}
	if b[0] != 'u' {
		if bytes.IndexByte([]byte(`"\/bfnrt`), b[0]) < 0 {
			return invalid
		}
		return 1
	}
	if len(b) < 5 {
		return invalid
	}
	for _, c := range b[1:5] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return invalid
		}
	}
	return 5
}

// kindOf returns the kind of a value that [scanner.value] has returned; 0 for no value.
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

// decoded returns the contents of a string, without a copy if it can. It returns nil for any other
// value.
func decoded(raw []byte) []byte {
	if inner, ok := plain(raw); ok {
		return inner
	}
	if s, ok := text(raw); ok {
		return []byte(s)
	}
	return nil
}

// maxInteger is the largest integer that all programs read from JSON as it was written.
const maxInteger = 1<<53 - 1

// integerOf returns the integer in raw, which may be written as 60, 60.0 or 6e1.
func integerOf(raw []byte) (int64, bool) {
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxInteger {
		return 0, false
	}
	return int64(f), true
}

// countOf returns the number in raw; −1 if that is not an integer from 0 to 2^31−1.
func countOf(raw []byte) int {
	n, ok := integerOf(raw)
	if !ok || n < 0 || n > math.MaxInt32 {
		return -1
	}
	return int(n)
}

// parseSeconds returns the duration of a number of seconds, rounded to microseconds.
func parseSeconds(s string, minimum, maximum float64) (time.Duration, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(minimum <= f && f <= maximum) {
		return 0, false
	}
	return time.Duration(math.Round(f*1e6)) * time.Microsecond, true
}

// appendSeconds appends d as a number of seconds.
func appendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, d.Seconds(), 'f', -1, 64)
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

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}
