//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

// Signals to relukko run are passed on. When the command has ended the lock is free.
func TestSignalsEndTheCommandAndFreeTheLock(t *testing.T) {
	t.Parallel()
	// A shell can lose a signal that comes while it starts a command, so these print
	// that they are ready when all have started.
	const plain = `(sleep 100) & (sleep 100 & (sleep 100) &); exec cat`
	for name, row := range map[string]struct {
		signal  syscall.Signal
		args    []string
		command string
		status  int
	}{
		"SIGINT":  {signal: syscall.SIGINT, command: plain, status: 130},
		"SIGTERM": {signal: syscall.SIGTERM, command: plain, status: 143},
		"SIGHUP":  {signal: syscall.SIGHUP, command: plain, status: 129},
		"SIGQUIT": {signal: syscall.SIGQUIT, command: plain, status: 131},
		"SIGTERM, handled": {signal: syscall.SIGTERM,
			command: `(sleep 100) & trap "exit 7" TERM; read l; echo $l; while :; do :; done`,
			status:  7},
		"SIGINT, handled": {signal: syscall.SIGINT,
			command: `trap "exit 8" INT; read l; echo $l; while :; do :; done`,
			status:  8},
		"SIGTERM, grandchildren don't care": {signal: syscall.SIGTERM,
			args: []string{"--kill-after", "0.2"}, status: 143,
			command: `(trap "" TERM; sleep 100) & exec cat`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t)
			input, keys := openInput(t)
			p := launch(t, of(s),
				append(append([]string{"run"}, row.args...), "arm", "--", "sh", "-c",
					row.command), input)
			_, err := io.WriteString(keys, "ready\n")
			require.NoError(t, err)
			require.Equal(t, "ready", p.line())
			p.signal(row.signal)
			require.Equal(t, row.status, p.awaitEnd(), p.stderr)
			require.Empty(t, s.Locks())
			p.awaitAllGone()
			require.Empty(t, p.stderr.String())
		})
	}
}

// Processes that a command leaves behind go on, unless a signal ended the command.
func TestWhatACommandLeavesBehind(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		ends   string
		status int
		left   bool
	}{
		"it ends by itself":    {ends: "exit 3", status: 3, left: true},
		"it reloads, and ends": {ends: "kill -HUP $PPID; sleep 0.3; exit 3", status: 3, left: true},
		"it crashes":           {ends: "kill -SEGV $$", status: 139},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t)
			input, end := openInput(t)
			p := launch(t, of(s), []string{"run", "--kill-after", "0.2", "arm", "--", "sh", "-c",
				`trap "" HUP; exec 8<&0; cat <&8 & ` + row.ends}, input)
			require.Equal(t, row.status, p.awaitEnd(), p.stderr)
			require.Empty(t, s.Locks())
			if row.left {
				_, err := io.WriteString(end, "still there\n")
				require.NoError(t, err)
				require.Equal(t, "still there", p.line())
				require.NoError(t, end.Close())
			}
			p.awaitAllGone()
		})
	}
}

// Other signals are for the command alone: its children would die of them.
func TestOtherSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	p := launch(t, of(s), []string{"run", "arm", "--", "sh", "-c",
		`trap "echo usr1" USR1
		trap "echo usr2; kill -0 \$child && echo its child lives; kill \$child; exit 6" USR2
		sleep 100 & child=$!; echo ready; while :; do wait; done`})
	require.Equal(t, "ready", p.line())
	p.signal(syscall.SIGUSR1)
	require.Equal(t, "usr1", p.line())
	p.signal(syscall.SIGUSR2)
	require.Equal(t, "usr2", p.line())
	require.Equal(t, "its child lives", p.line())
	require.Equal(t, 6, p.awaitEnd())
}

// After SIGKILL the lock is not released, but the command does not go on.
func TestSIGKILLOfRunKillsTheCommand(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	p := launch(t, of(s),
		[]string{"run", "arm", "--", "sh", "-c",
			`trap "" TERM INT HUP; echo ready; exec sleep 100`})
	require.Equal(t, "ready", p.line())
	p.signal(syscall.SIGKILL)
	require.Equal(t, 137, p.awaitEnd())
	p.awaitAllGone()
	require.Len(t, s.Locks(), 1, "it expires")
}

// A signal that is ignored when relukko starts stays ignored.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	script := `trap "" HUP
		exec "$0" run arm -- sh -c 'echo ready; kill -HUP $$; kill -HUP $PPID; cat'`
	input, end := openInput(t)
	p := launch(t, of(s), nil, input, func(c *exec.Cmd) {
		c.Path, c.Args = "/bin/sh", []string{"sh", "-c", script, program}
	})
	require.Equal(t, "ready", p.line())
	p.signal(syscall.SIGHUP)
	end.Close()
	require.Zero(t, p.awaitEnd(), p.stderr)
}

// An interrupted wait leaves no lock behind, wherever its request is.
func TestInterruptedWhileItWaits(t *testing.T) {
	t.Parallel()
	for kind, row := range map[string]struct {
		opts  []relukkotest.Option
		setUp func(*relukkotest.Server)
		hold  func(*relukkotest.Server) *relukkotest.Hold // of the request
		locks int                                         // that it has made
	}{
		"stream": {hold: openingHeld, setUp: kinds["our backend"]},
		"plain requests": {opts: []relukkotest.Option{relukkotest.WithoutStream()},
			hold: createReplyHeld, setUp: kinds["our backend"], locks: 1},
		"original backend": {hold: createReplyHeld, setUp: original, locks: 1},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			for command, args := range map[string][]string{
				"run": {"run", "arm", "--", "true"}, "acquire": {"acquire", "arm"},
			} {
				t.Run(strings.Join([]string{kind, command, sig.String()}, " "),
					func(t *testing.T) {
						t.Parallel()
						s := relukkotest.NewServer(t, row.opts...)
						row.setUp(s)
						hold := row.hold(s)
						p := launch(t, of(s), args)
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						require.NoError(t, hold.Await(ctx, 1))
						require.Len(t, s.Locks(), row.locks)
						p.signal(sig)
						require.Equal(t, 128+int(sig), p.awaitEnd(), p.stderr)
						require.Empty(t, s.Locks())
						hold.Release()
						interruptedWhileHeld(t, s, args, sig)
					})
			}
		}
	}
}

// openingHeld keeps a client from opening the stream.
func openingHeld(s *relukkotest.Server) *relukkotest.Hold {
	return s.Hold(relukkotest.On("GET", "/v1/stream"))
}

// createReplyHeld has a create carried out, and keeps its response.
func createReplyHeld(s *relukkotest.Server) *relukkotest.Hold {
	return s.HoldReplies(relukkotest.On("POST", "/v1/locks/"))
}

func interruptedWhileHeld(t *testing.T, s *relukkotest.Server, args []string, sig syscall.Signal) {
	_, err := s.Client().Create(t.Context(), "arm", "Ada")
	require.NoError(t, err)
	p := launch(t, of(s), args)
	p.stderr.await(t, "waiting for lock")
	p.signal(sig)
	require.Equal(t, 128+int(sig), p.awaitEnd(), p.stderr)
	require.True(t, s.Delete("arm"))
	require.Empty(t, s.Locks(), "nothing waits any more")
}

// A second signal ends the cleanup when the backend does not answer.
func TestASecondSignalEndsTheCleanup(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]relukkotest.Option{
		"over the stream": nil, "by plain requests": {relukkotest.WithoutStream()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t, opts...)
			command, pipe := traced(t, "sleep 100")
			p := launch(t, of(s), append([]string{"run", "arm", "--"}, command...))
			require.Equal(t, "ready", p.line())
			s.GoDark()
			p.signal(syscall.SIGTERM)
			awaitEOF(t, pipe)
			began := time.Now()
			again := time.NewTicker(100 * time.Millisecond) // run has to notice the end first
			defer again.Stop()
			for running := true; running; {
				select {
				case <-again.C:
					p.cmd.Process.Signal(syscall.SIGTERM)
				case <-p.waited:
					running = false
				}
			}
			require.Less(t, time.Since(began), 5*time.Second)
			require.Equal(t, 143, p.awaitEnd())
			require.Contains(t, p.stderr.String(), `relukko: lock "arm" was not released: `+
				"the backend did not confirm it. It expires by itself; "+
				"`relukko rm arm` frees it sooner")
		})
	}
}

// A lock that could not be printed is released: else nobody would know of it.
func TestAcquireWithoutAReader(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	for _, args := range [][]string{
		{"acquire", "arm"},
		{"hold", "arm", "--for", "1h", "--reason", "r"},
		{"hold", "arm", "--for", "0", "--reason", "r"},
	} {
		nobody, broken, err := os.Pipe()
		require.NoError(t, err)
		breakPipe(t, nobody, broken)
		p := launch(t, of(s), args, func(c *exec.Cmd) { c.Stdout = broken })
		require.Equal(t, 1, p.awaitEnd())
		require.NoError(t, broken.Close())
		require.Contains(t, p.stderr.String(), "the output could not be written", args)
		require.Empty(t, s.Locks(), args)
	}
}

// The key is never printed, and the command does not get it.
func TestTheKeyStaysSecret(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		opts  []relukkotest.Option
		fault relukkotest.Match
	}{
		"over the stream": {fault: relukkotest.On("", "/v1/")},
		"by plain requests": {[]relukkotest.Option{relukkotest.WithoutStream()},
			relukkotest.On("POST", "/v1/locks/")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keyStaysSecret(t, relukkotest.NewServer(t, row.opts...), row.fault)
		})
	}
}

func keyStaysSecret(t *testing.T, s *relukkotest.Server, fault relukkotest.Match) {
	s.AnswerNext(-1, fault, relukkotest.Answer{Status: http.StatusTeapot,
		Body: `{"status":418,"message":"no: ` + s.APIKey + `"}`})
	file := writeFile(t, "key", s.APIKey+"\n")
	status, stdout, stderr := run(t, []string{"RELUKKO_BASE_URL=" + s.URL}, "--api-key-file", file,
		"run", "arm", "--", "env")
	require.Equal(t, 69, status)
	require.NotContains(t, stdout+stderr, s.APIKey)

	s.Heal()
	status, stdout, stderr = run(t, []string{"RELUKKO_BASE_URL=" + s.URL}, "--api-key-file", file,
		"run", "arm", "--", "env")
	require.Zero(t, status, stderr)
	require.NotContains(t, stdout+stderr, s.APIKey, "the command's environment is as it was")
}
