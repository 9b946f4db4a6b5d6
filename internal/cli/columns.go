package cli

import (
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"
)

// columns returns the width of the terminal that w is, 0 where it is none.
func columns(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	if width == 0 { // the terminal does not know
		return 80
	}
	return width
}

// clip shortens s to n characters.
func clip(s string, n int) string {
	if n < 1 || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
