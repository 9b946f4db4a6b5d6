package boltstore_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/overlap"
	"gitlab.com/relukko/relukko-go/server/boltstore"
)

// childEnv says what this binary is to do when it is not to run the tests.
const childEnv = "RELUKKO_BOLTSTORE_CHILD"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(childEnv) {
	case "", "test":
		overlap.Tests("4")
		goleak.VerifyTestMain(m)
		return
	case "open":
		err = openAndClose(os.Args[1])
	case "work":
		err = work(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child answers a command that does job, with the store whose path is arg, in a process of its own.
func child(t *testing.T, job, arg string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, arg)
	cmd.Env = append(os.Environ(), childEnv+"="+job)
	return cmd
}

func openAndClose(path string) error {
	s, err := boltstore.OpenWith(path)
	if err != nil {
		return err
	}
	return s.Close()
}
