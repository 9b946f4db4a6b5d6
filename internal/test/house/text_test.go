package house

import (
	"go/ast"
	"iter"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxColumns = 100
	tabColumns = 4
)

// TestLineWidth leaves out what cannot be broken: URLs, and tables in Markdown.
func TestLineWidth(t *testing.T) {
	r := report{t, width}
	for _, s := range allSources(t) {
		for i, line := range strings.Split(s.text, "\n") {
			if strings.Contains(line, "://") || s.tree == nil && strings.HasPrefix(line, "|") {
				continue
			}
			columns := utf8.RuneCountInString(line) + (tabColumns-1)*strings.Count(line, "\t")
			if columns > maxColumns {
				r.addf(
					s.where(),
					"%s:%d: %d columns, more than %d",
					s.path,
					i+1,
					columns,
					maxColumns,
				)
			}
		}
	}
}

// A rule bans some words.
type rule struct {
	banned     *regexp.Regexp
	legitimate *regexp.Regexp // phrases that may contain them; nil: none
	instead    string
}

// words returns a rule that bans the alternatives as whole words.
func words(banned, legitimate, instead string) rule {
	r := rule{banned: wholeWords(banned), instead: instead}
	if legitimate != "" {
		r.legitimate = wholeWords(legitimate)
	}
	return r
}

func wholeWords(alternatives string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(` + strings.ReplaceAll(alternatives, " ", `\s+`) + `)\b`)
}

// persons are anybody that must not stand for a program, a goroutine or a client.
var persons = []rule{
	words(
		"he|him|his|himself|she|her|hers|herself|who(so)?ever|whomever",
		"",
		"the caller, it, its",
	),
}

// privateWords are names of our own for what has a standard term.
var privateWords = []rule{
	words("rooms?", "room for", "package, capacity"),
	words("(stands?|stood|waits?|next|first) in (the )?line", "", "queue, head of the queue"),
	words("strays?", "", "a create whose outcome is unknown"),
	words("lookouts?|hubs?|ears?|courtesy|courtesies|nois[ey]", "", "the standard term"),
	words("news|a word|last word|the word", "the word (in|of) .*", "event, message, answer"),
	words("doubts?|doubtful", "", "outcome unknown"),
	words("pok(e|es|ed|ing)", "", "wake, notify"),
	words("flights?", "in flight", "request"),
	words("(rid(e|es|ing)|rode|ridden) out", "", "survive, retry until"),
	words(
		"behind",
		"behind (a|the|its) (proxy|load balancer)|"+
			"behind(-| an? | trusted | )(nginx|Caddy|proxies)|"+
			"(left|leaves?|leaving|stays?)( nothing| none)? behind",
		"in the background",
	),
	words("(try|tries|tried|trying) on", "(try|tries|tried|trying) on each", "retry, still trying"),
	words("(see|sees|seen|saw) to (it|that)", "", "the verb for what is done"),
	words("(take|takes|taken|taking|took) in", "taken in the given order", "handle, record"),
	words("(is|are|was|were|be|been) had", "", "is acquired, is granted"),
	words("dawdl(e|es|ers?|ing)", "", "slow client"),
	words("(answers|tells|words) (whether|why)", "", "reports whether, returns the error"),
}

// TestPersons checks comments, also of tests, and documents.
func TestPersons(t *testing.T) {
	r := report{t, pronouns}
	for _, s := range allSources(t) {
		if s.tree == nil {
			r.words(s, 1, s.text, persons)
		}
		for line, text := range comments(s) {
			r.words(s, line, text, persons)
		}
	}
}

// TestPrivateWords checks comments, except those of tests, and documents, except the one that lists
// what not to write.
func TestPrivateWords(t *testing.T) {
	r := report{t, language}
	for _, s := range allSources(t) {
		if s.isTest() {
			continue
		}
		if s.tree == nil && s.path != "CONTRIBUTING.md" {
			r.words(s, 1, s.text, privateWords)
		}
		for line, text := range comments(s) {
			r.words(s, line, text, privateWords)
		}
	}
}

// TestFunctionsReturn checks the comments of functions, except in tests.
func TestFunctionsReturn(t *testing.T) {
	r := report{t, language}
	for name, f := range functions(t) {
		d, ok := f.node.(*ast.FuncDecl)
		if ok && !f.in.isTest() && strings.HasPrefix(d.Doc.Text(), d.Name.Name+" answers ") {
			r.addf(f.in.where(), "%s: %s answers; functions return", f.in.at(d.Pos()), name)
		}
	}
}

// comments returns the comments of a file of Go by the line on which they begin.
func comments(s *source) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		if s.tree == nil {
			return
		}
		for _, group := range s.tree.Comments {
			if !yield(files.Position(group.Pos()).Line, group.Text()) {
				return
			}
		}
	}
}

// words adds a finding for each banned word in a text that begins at the given line.
func (r report) words(s *source, line int, text string, rules []rule) {
	for _, b := range find(text, rules) {
		r.addf(s.where(), "%s:%d: %q: better: %s", s.path, line+b.line, b.words, b.instead)
	}
}

// bannedWords are words that a rule bans, and the number of line breaks before them.
type bannedWords struct {
	words, instead string
	line           int
}

func find(text string, rules []rule) []bannedWords {
	var found []bannedWords
	for _, rule := range rules {
		var legitimate [][]int
		if rule.legitimate != nil {
			legitimate = rule.legitimate.FindAllStringIndex(text, -1)
		}
		for _, at := range rule.banned.FindAllStringIndex(text, -1) {
			if !slices.ContainsFunc(legitimate, func(l []int) bool {
				return l[0] <= at[0] && at[1] <= l[1]
			}) {
				found = append(found, bannedWords{
					text[at[0]:at[1]], rule.instead, strings.Count(text[:at[0]], "\n"),
				})
			}
		}
	}
	return found
}

func TestFind(t *testing.T) {
	for text, want := range map[string][]string{
		"Whoever holds it, he\nis the holder; the shepherd is not.": {"Whoever", "he"},
		"requests in flight, two flights":                           {"flights"},
		"It waits in\nline, behind a proxy, and tries behind.":      {"waits in\nline", "behind"},
		"It waits on line 3, and leaves nothing behind.":            nil,
		"It leaves room for the nose.":                              nil,
	} {
		var got []string
		for _, b := range find(text, slices.Concat(persons, privateWords)) {
			got = append(got, b.words)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: found %q, want %q", text, got, want)
		}
	}
}
