package main

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

// processesWith are the processes that have an argument.
func processesWith(t testing.TB, argument string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		line, _ := os.ReadFile(file) // it may have ended
		if strings.HasSuffix(string(line), "\x00"+argument+"\x00") {
			found = append(found, file)
		}
	}
	return found
}

// A shell puts its jobs into groups of their own. A loss ends them too, and the outer
// shell gets the terminal back.
func TestAShellAsTheCommand(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := shell(t, s)
	c.types("PS1='inside> ' $relukko run --kill-after 0.3 arm -- " +
		"bash --norc --noprofile --noediting -i\n")
	c.await("inside> ")
	awaitHeartbeat(t, s, "arm")
	c.types("cat\n")
	c.types("one\n")
	c.await("one\r\n")
	c.types(ctrlZ)
	c.await("Stopped")
	c.await("inside> ")
	c.types("fg\n")
	c.types("two\n")
	c.await("two\r\n")
	c.types(ctrlC)
	c.await("inside> ")
	marker := "relukko-test-" + rand.Text()
	t.Cleanup(func() { // it would keep the terminal open
		for _, file := range processesWith(t, marker) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			require.NoError(t, err)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	c.types("cat - " + marker + "\n")
	c.types("three\n")
	c.await("three\r\n") // it has the terminal, in a group of its own
	require.True(t, s.Delete("arm"))
	c.await("was lost: somebody deleted it")
	require.Empty(t, processesWith(t, marker), "the job is gone before it is said")
	c.await(">> ")
	c.types("echo status=$?\n")
	c.await("status=76")
}

// The command of an inner relukko run has a group of its own.
func TestALossReachesTheInnerCommand(t *testing.T) {
	t.Parallel()
	for name, sleep := range map[string]string{
		"heeds SIGTERM":   "sleep 100",
		"ignores SIGTERM": `trap "" TERM; sleep 100`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t)
			outer := []string{"run", "--kill-after", "300ms", "outer", "--"}
			inner := append([]string{program, "run", "inner", "--"}, family(sleep)...)
			p := launch(t, of(s), append(outer, inner...))
			require.Equal(t, "ready", p.line())
			awaitHeartbeat(t, s, "outer")
			require.True(t, s.Delete("outer"))
			require.Equal(t, 76, p.awaitEnd(), p.stderr)
			p.awaitAllGone()
		})
	}
}

// A script that becomes relukko run by exec keeps its children.
func TestChildrenFromBeforeAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	input, end := openInput(t)
	script := `set -m; cat <&0 & exec "$0" run --kill-after 0.2 arm -- sh -c 'kill -KILL $$'`
	p := launch(t, of(s), nil, input, func(c *exec.Cmd) {
		c.Path, c.Args = "/bin/bash", []string{"bash", "-c", script, program}
	})
	require.Equal(t, 137, p.awaitEnd(), p.stderr)
	_, err := end.Write([]byte("still there\n"))
	require.NoError(t, err)
	require.Equal(t, "still there", p.line())
	require.NoError(t, end.Close())
	p.awaitAllGone()
}
