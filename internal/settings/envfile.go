package settings

import (
	"fmt"
	"slices"
	"strings"
)

// assignment is one of a file with settings.
type assignment struct {
	name, value string
	start, end  int // where it stands, with its line break
}

// parse reads a file in the syntax of systemd's EnvironmentFile: lines NAME=value; comments that
// begin with # or ;; values that may be quoted, by ' as they are, by " with \ before ", \, $ and `;
// \ before any character that is not quoted; \ at the end of a line, which the next one continues.
// Other lines are ignored. As a shell's export would be ignored by systemd, it is an error here.
func parse(text string) ([]assignment, error) {
	var all []assignment
	p := parser{text: text}
	for p.skipSpace(); p.at < len(text); p.skipSpace() {
		start := p.at
		name, ok := p.name()
		if !ok {
			p.skipLine()
			continue
		}
		if shell, ok := strings.CutPrefix(name, "export "); ok {
			return nil, fmt.Errorf("line %d: write %s=… without export",
				p.line(start), strings.TrimSpace(shell))
		}
		value, closed := p.value()
		if !closed {
			return nil, fmt.Errorf("line %d: the quote is not closed", p.line(start))
		}
		all = append(all, assignment{name, value, start, p.at})
	}
	return all, nil
}

type parser struct {
	text string
	at   int
}

func (p *parser) line(at int) int { return 1 + strings.Count(p.text[:at], "\n") }

func (p *parser) skipSpace() {
	p.at += len(p.text[p.at:]) - len(strings.TrimLeft(p.text[p.at:], " \t\r\n"))
}

// skipLine goes to the next line.
func (p *parser) skipLine() {
	_, rest, _ := strings.Cut(p.text[p.at:], "\n")
	p.at = len(p.text) - len(rest)
}

// name reads the name of an assignment and the = after it, if there is one on this line.
func (p *parser) name() (string, bool) {
	if strings.IndexByte("#;", p.text[p.at]) >= 0 {
		return "", false
	}
	line, _, _ := strings.Cut(p.text[p.at:], "\n")
	name, _, ok := strings.Cut(line, "=")
	if ok {
		p.at += len(name) + 1
	}
	return strings.TrimSpace(name), ok
}

// value reads the value of an assignment to the end of its last line. It reports false if a quote
// is not closed.
func (p *parser) value() (string, bool) {
	var value []byte
	kept := 0        // how much of value is not white space at its end
	quote := byte(0) // the one that is open
	quotable := true // a quote may open
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && p.at+1 < len(p.text):
			p.at++
			next := p.text[p.at]
			if next == '\n' {
				continue
			}
			if quote == '"' && strings.IndexByte("\"\\$`", next) < 0 {
				value = append(value, c)
			}
			value = append(value, next)
			kept, quotable = len(value), quote != 0
		case quote != 0:
			value = append(value, c)
			kept = len(value)
		case c == '\n':
			p.at++
			return string(value[:kept]), true
		case quotable && (c == '\'' || c == '"'):
			quote = c
		case c == ' ' || c == '\t' || c == '\r':
			if !quotable {
				value = append(value, c)
			}
		default:
			value = append(value, c)
			kept, quotable = len(value), false
		}
	}
	return string(value[:kept]), quote == 0
}

// SetInFile sets these settings in the file path, in their order, and keeps its other lines; what
// is set to "" is removed. Afterwards only this user can read the file, which is replaced at one
// instant.
func SetInFile(path string, set ...Assignment) error {
	text, err := readIfThere(path)
	if err != nil {
		return err
	}
	old, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, a := range slices.Backward(old) {
		if slices.ContainsFunc(set, func(s Assignment) bool { return s.Name == a.name }) {
			text = text[:a.start] + text[a.end:]
		}
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for _, s := range set {
		if s.Value != "" {
			text += s.Name + "=" + quoted(s.Value) + "\n"
		}
	}
	return replacePrivate(path, text)
}

// Assignment is what [SetInFile] sets.
type Assignment struct{ Name, Value string }

// quoted returns a value as parse reads it. A value in single quotes is the same for systemd and
// for a shell.
func quoted(value string) string {
	harmless := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' ||
			strings.ContainsRune("-_.,:/@%+=", r)
	}
	switch {
	case strings.TrimFunc(value, harmless) == "":
		return value
	case !strings.Contains(value, "'"):
		return "'" + value + "'"
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`")
	return `"` + escape.Replace(value) + `"`
}
