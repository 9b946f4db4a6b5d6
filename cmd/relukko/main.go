// Command relukko guards programs with locks that hold across machines, shows
// and mends the locks of a Relukko backend, and is such a backend.
//
//	relukko serve                                # a backend
//	relukko run robot-arm-1 -- ./calibrate.sh    # a program, guarded
//	relukko ls                                   # who holds what
//
// All commands are described in docs/cli.md, which is generated from them
// (go generate ./cmd/relukko), and by relukko help.
package main

import (
	"os"
)

//go:generate go run . docs ../../docs/cli.md

func main() {
	os.Exit(execute(os.Args[1:], os.Stderr))
}
