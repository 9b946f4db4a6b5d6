//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

const showAndWait = `echo "$RELUKKO_LOCK_NAME"; cat`

func TestAnyOfSeveral(t *testing.T) {
	t.Parallel()
	for name, setUp := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t)
			setUp(s)
			args := []string{"run", "--any", "licence/1..2,dongle", "--creator", "Ada"}
			got := map[string]func() error{}
			for range 3 {
				input, end := openInput(t)
				p := launch(t, of(s), append(args, "--", "sh", "-c", showAndWait), input)
				got[p.line()] = end.Close
			}
			require.Len(t, got, 3)
			require.Len(t, s.Locks(), 3)

			status, _, stderr := run(t, of(s), append(args, "--no-wait", "--", "true")...)
			require.Equal(t, 75, status)
			require.Regexp(t, `lock "[^"]+" is held by .*, and the others are held too`, stderr)

			p := launch(t, of(s), append(args, "--", "sh", "-c", showAndWait))
			p.stderr.await(t, `relukko: waiting for any of "licence/1..2,dongle", `)
			require.NoError(t, got["licence/2"]())
			require.Equal(t, "licence/2", p.line())
			require.Zero(t, p.awaitEnd())
			require.Contains(t, p.stderr.String(), `relukko: acquired lock "licence/2" after `)
			require.NoError(t, got["licence/1"]())
			require.NoError(t, got["dongle"]())
		})
	}
}

// A command that runs under a member of a pool may want another one, but not just its own.
func TestAnyWithinAny(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	status, stdout, stderr := run(t, of(s), "run", "--any", "a,b", "--", program, "run",
		"--any", "a,b", "--", "sh", "-c", `echo "$RELUKKO_LOCK_NAME"`)
	require.Zero(t, status, stderr)
	require.Equal(t, "b\n", stdout)
	status, _, stderr = run(t, of(s), "run", "--any", "a,b", "--", program, "run",
		"--any", "a", "--", "true")
	require.Equal(t, 64, status, stderr)
	require.Contains(t, stderr, "use --nested")
}

func TestMaxHoldEndsTheCommand(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	const script = `trap 'echo ending; sleep 0.5; echo ended; exit 0' TERM
		echo ready; sleep 100 & wait`
	began := time.Now()
	p := launch(t, of(s), []string{"run", "--max-hold", "2s", "arm", "--", "sh", "-c", script})
	require.Equal(t, "ready", p.line())
	require.Equal(t, "ending", p.line())
	require.GreaterOrEqual(t, time.Since(began), 2*time.Second)
	require.Len(t, s.Locks(), 1, "held until the command has ended")
	require.Equal(t, "ended", p.line())
	require.Equal(t, 77, p.awaitEnd())
	require.Equal(t, "relukko: the command was stopped: it has run for longer than --max-hold "+
		"(2s) allows\n", p.stderr.String())
	require.Empty(t, s.Locks())

	status, _, stderr := run(t, of(s), "run", "--max-hold", "1h", "arm", "--", "sh", "-c", "exit 3")
	require.Equal(t, 3, status, stderr)
}

func TestOnWanted(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	const script = `trap 'echo wanted; exit 3' USR1; echo ready; while :; do sleep 0.01; done`
	p := launch(t, of(s), []string{"run", "--on-wanted", "USR1", "arm", "--", "sh", "-c", script})
	require.Equal(t, "ready", p.line())
	other := launch(t, of(s), []string{"run", "arm", "--", "true"})
	require.Equal(t, "wanted", p.line())
	require.Equal(t, 3, p.awaitEnd())
	require.Zero(t, other.awaitEnd())
	require.Empty(t, p.stderr.String())
}

// In CI others see for which job a lock is held.
func TestTheReason(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	github := []string{
		"GITHUB_SERVER_URL=https://github.com", "GITHUB_REPOSITORY=a/b", "GITHUB_RUN_ID=7",
	}
	for name, row := range map[string]struct {
		env, args []string
		want      string // a regular expression
	}{
		"none":      {want: `^[^()]+ #\w+$`},
		"by a flag": {args: []string{"--reason", "flash 1.2"}, want: `^.+@.+ \(flash 1\.2\) #`},
		"GitLab": {env: []string{"CI_JOB_URL=https://gitlab.com/j/1"},
			want: `^.+@.+ \(https://gitlab\.com/j/1\) #`},
		"GitHub":            {env: github, want: ` \(https://github\.com/a/b/actions/runs/7\) #`},
		"Jenkins":           {env: []string{"BUILD_URL=https://ci/job/1/"}, want: ` \(https://ci/job/1/\) #`},
		"a flag goes first": {env: github, args: []string{"--reason", "r"}, want: ` \(r\) #`},
		"with a creator":    {env: github, args: []string{"--creator", "Ada"}, want: `^Ada #`},
		"unprintable":       {env: []string{"BUILD_URL=a\tb"}, want: `^[^()]+ #`},
	} {
		args := append(append([]string{"acquire"}, row.args...), name)
		status, _, stderr := run(t, append(of(s), row.env...), args...)
		require.Zero(t, status, stderr)
		require.Regexp(t, row.want, *lockOf(t, s, name).Creator, name)
	}
	_, stdout, stderr := run(t, of(s), "run", "--reason", "why", "arm", "--",
		program, "get", "arm", "--json")
	require.Contains(t, stdout, " (why) #", stderr)
}

// A command has a second until the signal comes, also if others wait from the start.
func TestOnWantedFromTheStart(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	first := launch(t, of(s), []string{"run", "arm", "--", "sh", "-c", "echo ready; sleep 100"})
	require.Equal(t, "ready", first.line())
	const script = `sleep 0.1; trap 'exit 3' USR1; while :; do sleep 0.01; done`
	second := launch(t, of(s), []string{"run", "--on-wanted", "USR1", "arm", "--", "sh", "-c",
		script})
	second.stderr.await(t, "waiting for lock")
	third := launch(t, of(s), []string{"run", "arm", "--", "true"})
	third.stderr.await(t, "waiting for lock")
	first.signal(syscall.SIGTERM)
	require.Equal(t, 3, second.awaitEnd())
	require.Zero(t, third.awaitEnd())
}
