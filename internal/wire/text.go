package wire

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable makes a text from the other side fit to be printed on one line:
// each run of space and unprintable characters becomes one space, and what is
// beyond max bytes is cut off.
func Printable(s string, max int) string {
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

// excerpt returns the beginning of a JSON value for an error.
func excerpt(raw []byte) string {
	if len(raw) == 0 {
		return "missing"
	}
	return Printable(string(raw[:min(len(raw), 100)]), 64)
}
