// Command relukko runs programs while they hold a lock that excludes others on
// all machines. It shows and edits the locks of a Relukko backend, and it can be
// that backend.
//
//	relukko serve                                # a backend
//	relukko run robot-arm-1 -- sleep 5           # a program that holds a lock
//	relukko ls                                   # who holds what
//
// docs/cli.md describes all commands. It is generated from them (go generate
// ./cmd/relukko), as is the output of relukko help.
package main

import (
	"os"

	"gitlab.com/relukko/relukko-go/internal/cli"
)

//go:generate go run . docs ../../docs/cli.md

func main() {
	os.Exit(cli.Run(cli.Invocation{
		Args: os.Args[1:], Env: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}))
}
