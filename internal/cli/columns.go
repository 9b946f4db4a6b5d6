package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rivo/uniseg"
	"golang.org/x/term"
)

// terminalWidth returns the columns of the terminal that w is, 0 where it is none.
func terminalWidth(w io.Writer) int {
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

// columns returns how many columns s takes on a terminal: a wide character, as
// Chinese, Japanese and Korean have, takes two.
func columns(s string) int { return uniseg.StringWidth(s) }

// clip shortens s to n columns.
func clip(s string, n int) string {
	if n < 1 || columns(s) <= n {
		return s
	}
	var b strings.Builder
	left, state := n-1, -1
	for s != "" {
		var character string
		var width int
		character, s, width, state = uniseg.FirstGraphemeClusterInString(s, state)
		if width > left {
			break
		}
		left -= width
		b.WriteString(character)
	}
	return b.String() + "…"
}

// writeTable writes rows with aligned columns, two blanks apart.
func writeTable(w io.Writer, rows [][]string) error {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], columns(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			b.WriteString(cell + strings.Repeat(" ", widths[i]-columns(cell)+2))
		}
		b.WriteString(row[len(row)-1] + "\n")
	}
	return printed(fmt.Fprint(w, b.String()))
}

// printed returns the failure for output that could not be written. It takes the
// results of the fmt functions.
func printed(_ int, err error) error {
	if err != nil {
		return failed("the output could not be written: %v", err)
	}
	return nil
}
