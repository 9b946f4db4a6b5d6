// Package house has no code: its tests check the rules that keep the module's code easy to carry
// on. They read the source of the whole module, so a finding names a file, not a failed behaviour.
//
//	go test ./internal/test/house            # what must hold
//	go test ./internal/test/house -strict    # also in the packages of notYetMoved
//	go test ./internal/test/house -strict 2>&1 | grep server/
//
// CONTRIBUTING.md states the rules; docs/design.md has the order of the files.
package house

import (
	"flag"
	"slices"
	"testing"
)

var strict = flag.Bool("strict", false, "fail also for the packages of notYetMoved")

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
)

// notYetMoved lists the packages, and the documents, that do not pass some checks yet. A package
// without a list of checks is exempt from all of them. The list only shrinks: the commit that puts
// a package in order deletes its row. With -strict the test names what is left to do.
var notYetMoved = map[string][]check{
	// Not moved.
	".": {fileOrder, width, pronouns}, "api": nil, "cmd/relukko": nil,
	"docs/cli.md": nil,

	// Not made.
	"internal/wire": nil,
	"internal/cli":  nil, "internal/supervise": nil,
}

// A report fails the test for the findings of one check that count.
type report struct {
	t     *testing.T
	check check
}

// addf reports a finding in a package, named by its directory, or in a document, named by its path.
func (r report) addf(where, format string, args ...any) {
	r.t.Helper()
	checks, listed := notYetMoved[where]
	exempt := listed && (len(checks) == 0 || slices.Contains(checks, r.check))
	if !exempt || *strict {
		r.t.Errorf(format, args...)
	}
}
