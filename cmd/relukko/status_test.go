//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestExitStatus(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	_, err := s.Client().Create(t.Context(), "held", "Ada")
	require.NoError(t, err)
	nobody := "RELUKKO_BASE_URL=http://127.0.0.1:1"

	for name, row := range map[string]struct {
		env    []string
		args   []string
		status int
		says   string // on stderr
	}{
		"the command's own, 0": {args: []string{"run", "x0", "--", "true"}},
		"the command's own, 3": {args: []string{"run", "x1", "--", "sh", "-c", "exit 3"},
			status: 3},
		"the command's own, 64": {args: []string{"run", "x11", "--", "sh", "-c", "exit 64"},
			status: 64},
		"the command's own, 76": {args: []string{"run", "x2", "--", "sh", "-c", "exit 76"},
			status: 76},
		"ended by SIGTERM": {args: []string{"run", "x3", "--", "sh", "-c", "kill -TERM $$"},
			status: 143},
		"ended by SIGKILL": {args: []string{"run", "x4", "--", "sh", "-c", "kill -KILL $$"},
			status: 137},
		"no such command": {args: []string{"run", "x5", "--", "no-such-command"},
			status: 127, says: "no-such-command: command not found"},
		"no such file": {args: []string{"run", "x6", "--", "./no-such-file"},
			status: 127, says: "./no-such-file: command not found"},
		"a directory": {args: []string{"run", "x7", "--", "/"}, status: 126,
			says: "/: is a directory"},
		"not executable": {args: []string{"run", "x8", "--", "./main.go"}, status: 126,
			says: "./main.go: permission denied"},
		"no format to be run": {args: []string{"run", "x9", "--", "testdata/noformat"},
			status: 126, says: "testdata/noformat: exec format error"},
		"no interpreter": {args: []string{"run", "x10", "--", "testdata/nointerpreter"},
			status: 127, says: "testdata/nointerpreter: no such file or directory"},
		"held, not waited for": {args: []string{"run", "--no-wait", "held", "--", "true"},
			status: 75, says: `lock "held" is held by Ada`},
		"held, waited for": {args: []string{"run", "--wait", "2", "held", "--", "true"},
			status: 75, says: `lock "held" was not free within 2s: held by Ada`},
		"held, waited for 0": {args: []string{"run", "--wait", "0", "held", "--", "true"},
			status: 75, says: `lock "held" is held by Ada`},
		"acquire: waited for 0": {args: []string{"acquire", "--wait", "0s", "held"}, status: 75,
			says: `lock "held" is held by Ada`},
		"acquire: held": {args: []string{"acquire", "--no-wait", "held"}, status: 75,
			says: `lock "held" is held by Ada`},
		"the wrong key": {env: []string{"RELUKKO_API_KEY=wrong"},
			args: []string{"run", "x", "--", "true"}, status: 69,
			says: "does not let this API key"},
		"nobody there": {env: []string{nobody},
			args: []string{"run", "--wait", "1s", "x", "--", "true"}, status: 69,
			says: "no Relukko backend at http://127.0.0.1:1: connection refused. " +
				"Start one with `relukko serve`, or set RELUKKO_BASE_URL"},
		"an empty name": {args: []string{"run", "", "--", "true"}, status: 64,
			says: "the name is empty"},
		"a name with a line break": {args: []string{"run", "a\nb", "--", "true"}, status: 64,
			says: "control character"},
		"a conflict code of one's own": {
			args:   []string{"run", "--no-wait", "--conflict-exit-code", "3", "held", "--", "true"},
			status: 3, says: `lock "held" is held by Ada`},
		"a conflict that is none": {
			args: []string{"run", "--quiet", "--no-wait", "--conflict-exit-code", "0", "held",
				"--", "true"},
			status: 0},
		"quiet, waited for": {
			args:   []string{"acquire", "--quiet", "--wait", "1s", "held"},
			status: 75},
		"quiet, but no backend": {env: []string{nobody},
			args:   []string{"run", "--quiet", "--wait", "1s", "x", "--", "true"},
			status: 69, says: "no Relukko backend"},
		"no exit status": {args: []string{"run", "--conflict-exit-code", "256", "x", "--", "true"},
			status: 64, says: "from 0 to 255"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, stdout, stderr := run(t, append(of(s), row.env...), row.args...)
			require.Equal(t, row.status, status, stderr)
			require.Empty(t, stdout)
			if row.says == "" {
				require.Empty(t, stderr)
			}
			require.Contains(t, stderr, row.says)
			require.NotContains(t, stderr, s.APIKey)
			if stderr != "" {
				require.True(t, strings.HasPrefix(stderr, "relukko: "), stderr)
				require.NotContains(t, stderr, "relukko: relukko: ")
			}
		})
	}
	t.Cleanup(func() { require.Len(t, s.Locks(), 1, "only the one that was held") })
}
