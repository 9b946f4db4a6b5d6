// Package house has no code: its tests check the rules that keep the module's code easy to carry
// on. They read the source of the whole module, so a finding names a file, not a failed behaviour.
//
// CONTRIBUTING.md states the rules; docs/design.md has the order of the files.
package house

import (
	"slices"
	"testing"
)

// A check is the name of one of the rules.
type check string

const (
	arrows     check = "arrows"     // which package may import which
	fileOrder  check = "order"      // no file refers to a file above it
	size       check = "size"       // of a function
	complexity check = "complexity" // of a function
	width      check = "width"      // of a line
	pronouns   check = "pronouns"   // no person where a program is meant
	language   check = "language"   // standard terms
	bubbles    check = "bubbles"    // tests with fake time survive the race detector
)

// exempt lists the documents and packages that some checks leave out.
var exempt = map[string][]check{
	"docs/cli.md":          {width},   // generated from the help texts
	"examples/instrument":  {bubbles}, // for users to copy; its bubble has one goroutine
	"internal/test/bubble": {bubbles},
}

// A report fails the test for the findings of one check that count.
type report struct {
	t     *testing.T
	check check
}

// addf reports a finding in a package, named by its directory, or in a document, named by its path.
func (r report) addf(where, format string, args ...any) {
	r.t.Helper()
	if !slices.Contains(exempt[where], r.check) {
		r.t.Errorf(format, args...)
	}
}
