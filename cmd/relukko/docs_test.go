package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

func TestDocsAreCurrent(t *testing.T) {
	t.Parallel()
	var now bytes.Buffer
	writeDocs(&now, newRoot())
	there, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	require.Equal(t, now.String(), string(there), "run go generate ./cmd/relukko")
}

func TestEveryCommandIsExplained(t *testing.T) {
	t.Parallel()
	for _, cmd := range newRoot().Commands() {
		if cmd.Hidden || cmd.Name() == "help" {
			continue
		}
		require.NotEmpty(t, cmd.Short, cmd.Name())
		require.NotEmpty(t, cmd.Long, cmd.Name())
		require.Contains(t, cmd.Example, "relukko", cmd.Name())
		require.NotEmpty(t, cmd.GroupID, cmd.Name())
		require.NotNil(t, cmd.Args, cmd.Name())
		require.True(t, cmd.ValidArgsFunction != nil || len(cmd.ValidArgs) > 0, cmd.Name())
		for line := range strings.Lines(cmd.Long) {
			require.LessOrEqual(t, len([]rune(line)), 81, line)
		}
		status, stdout, stderr := run(t, nil, "help", cmd.Name())
		require.Zero(t, status)
		require.Empty(t, stderr)
		require.Contains(t, stdout, "Examples:", cmd.Name())
	}
}

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

func TestCompletion(t *testing.T) {
	t.Parallel()
	s, _ := locked(t, "robot-arm-1", "robot-arm-2", "dongle")
	arms := "robot-arm-1\theld by Ada@bench/7\nrobot-arm-2\theld by Ada@bench/7\n:4\n"
	for _, row := range []struct{ typed, offered string }{
		{"get|ro", arms},
		{"rm|dongle|ro", arms},
		{"extend|ro", arms},
		{"set|ro", arms},
		{"run|ro", arms},
		{"run|--lock|ro", arms},
		{"acquire|ro", arms},
		{"get|dongle|", ":4\n"},
		{"run|dongle|--|ro", ":0\n"},
		{"ls|", ":4\n"},
		{"serve|--log-format|", "text\njson\n:4\n"},
	} {
		status, stdout, _ := run(t, of(s), append([]string{cobra.ShellCompRequestCmd}, strings.Split(row.typed, "|")...)...)
		require.Zero(t, status)
		require.Equal(t, row.offered, stdout, row.typed)
	}

	// A shell must not hang or be littered because of a backend.
	hold := s.Hold(nil)
	status, stdout, stderr := run(t, of(s), cobra.ShellCompRequestCmd, "get", "")
	require.Zero(t, status)
	require.Equal(t, ":4\n", stdout)
	require.NotContains(t, stderr, "no answer")
	hold.Release()
}
