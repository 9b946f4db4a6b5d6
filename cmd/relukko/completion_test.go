//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		status, stdout, stderr := run(t, nil, "completion", shell)
		require.Zero(t, status, stderr)
		require.Contains(t, stdout, "relukko")
		if path, err := exec.LookPath(shell); err == nil {
			out, err := exec.Command(path, "-n", writeFile(t, "script", stdout)).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	}
}

// shellWithCompletion is an interactive shell that completes.
func shellWithCompletion(t testing.TB, s *relukkotest.Server, name string) *console {
	t.Helper()
	args := map[string][]string{"bash": {"--norc", "--noprofile", "-i"}, "zsh": {"-f", "-i"}}[name]
	c := open(t, s, name, args...)
	c.await(">> ")
	c.types(`PATH="${relukko%/*}:$PATH"` + "\n")
	if name == "zsh" {
		c.types("autoload -Uz compinit; compinit -D -u\n")
	}
	c.types("source <(relukko completion " + name + ")\n")
	c.types("echo rea''dy\n")
	c.await("\nready")
	return c
}

// The scripts work in the shells that are installed.
func TestCompletionInTheShells(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bash", "zsh"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s, _ := locked(t, "robot-arm-1", "robot-arm-2", "dongle", "col:on")
			c := shellWithCompletion(t, s, name)
			for typed, gets := range map[string]string{
				"relukko get don\t--json":         "dongle",
				"relukko get col\t--json":         "col:on",
				"relukko get col:\t--json":        "col:on",
				"relukko get ro\t2 --json":        "robot-arm-2",
				"relukko ge\tdon\t--js\t":         "dongle",
				"relukko ex\tdon\t--fo\t1h --j\t": "dongle",
			} {
				c.types(typed + "\n")
				c.await(`"lock_name": "` + gets + `"`)
			}
		})
	}
	if path, err := exec.LookPath("fish"); err == nil {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s, _ := locked(t, "robot-arm-1", "robot-arm-2", "dongle", "col:on")
			for typed, offers := range map[string]string{
				"relukko get don":  "dongle\theld by Ada@bench/7\n",
				"relukko get col:": "col:on\theld by Ada@bench/7\n",
				"relukko run --lock rob": "robot-arm-1\theld by Ada@bench/7\n" +
					"robot-arm-2\theld by Ada@bench/7\n",
				"relukko compl": "completion\tPrint a completion script for a shell\n",
			} {
				cmd := exec.Command(path, "--no-config", "-c",
					`set PATH $argv[2] $PATH; relukko completion fish | source
					complete -C $argv[1]`,
					typed, filepath.Dir(program))
				cmd.Env = environment(t, of(s)...)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", out)
				require.Equal(t, offers, string(out), typed)
			}
		})
	}
}

// A shell never executes the names of locks, not even when TAB is pressed again after
// it has completed what two names have in common.
func TestCompletionDoesNotCarryOutNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bash", "zsh"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			made := filepath.Join(t.TempDir(), "made")
			s, _ := locked(t, "evil$(touch "+made+")1", "evil$(touch "+made+")2")
			c := shellWithCompletion(t, s, name)
			c.types("relukko get ev\t\t\t\t\x15echo do''ne\n") // Ctrl-U clears the line
			c.await("\ndone")
			_, err := os.Stat(made)
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}
