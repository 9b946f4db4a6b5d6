package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

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
		status, stdout, _ := run(t, of(s),
			append([]string{cobra.ShellCompRequestCmd}, strings.Split(row.typed, "|")...)...)
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

// What a shell would evaluate, or take for something else, is not offered.
func TestCompletionOffersHarmlessNamesOnly(t *testing.T) {
	t.Parallel()
	harmful := []string{"x$(id)", "x`id`", "x;id", "x|y", "x&y", "x'y", `x"y`, `x\y`, "x*", "x?",
		"x[y]", "x{y}", "x<y", "x>y", "x(y)", "!x", "#x", "-x", "~x", "_activeHelp_ x"}
	s, _ := locked(t, append(harmful, "Ü 猫", "host:/dev/tty@3,4%5=6+7")...)
	status, stdout, _ := run(t, of(s), cobra.ShellCompNoDescRequestCmd, "get", "")
	require.Zero(t, status)
	require.ElementsMatch(t, []string{"Ü 猫", "host:/dev/tty@3,4%5=6+7", ":4"},
		strings.Split(strings.TrimSpace(stdout), "\n"))
}
