//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

// family returns a command with grandchildren, some of them orphans, that prints
// "ready" when all have started. Each of them executes sleep.
func family(sleep string) []string {
	return []string{"sh", "-c",
		fmt.Sprintf(`(%[1]s) & (%[1]s & (%[1]s) &) ; echo ready; %[1]s`, sleep)}
}

// traced returns a family and a pipe that ends when the family does.
func traced(t testing.TB, sleep string) (command []string, pipe *os.File) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(name, 0o600))
	pipe, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() { pipe.Close() })
	command = family(sleep)
	command[2] = "exec 9>" + name + "; " + command[2]
	return command, pipe
}

func TestADeletedLockEndsTheCommand(t *testing.T) {
	t.Parallel()
	for name, setUp := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t)
			setUp(s)
			p := launch(t, of(s),
				append([]string{"run", "arm", "--"}, family("sleep 100")...))
			require.Equal(t, "ready", p.line())
			awaitHeartbeat(t, s, "arm")
			deleted := time.Now()
			require.True(t, s.Delete("arm"))
			require.Equal(t, 76, p.awaitEnd())
			require.Less(t, p.awaitAllGone().Sub(deleted), time.Second)
			require.Equal(t, "relukko: lock \"arm\" was lost: somebody deleted it, or it expired. "+
				"The command was stopped\n", p.stderr.String())
			require.Empty(t, s.Locks())
		})
	}
}

// The loss of one of several locks ends the command. The others are released.
func TestOneOfSeveralLocksDeleted(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	p := launch(t, of(s),
		append([]string{"run", "--lock", "a", "--lock", "b", "--lock", "c", "--"},
			family("sleep 100")...))
	require.Equal(t, "ready", p.line())
	awaitHeartbeat(t, s, "b")
	require.True(t, s.Delete("b"))
	require.Equal(t, 76, p.awaitEnd())
	p.awaitAllGone()
	require.Contains(t, p.stderr.String(), `lock "b" was lost`)
	require.Empty(t, s.Locks())
}

// A command that ignores SIGTERM is killed --kill-after later, and the processes that
// it started too: there may be a next holder.
func TestACommandThatIgnoresSIGTERMIsKilled(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	p := launch(t, of(s),
		append([]string{"run", "--kill-after", "300ms", "arm", "--"},
			family(`trap "" TERM; sleep 100`)...))
	require.Equal(t, "ready", p.line())
	awaitHeartbeat(t, s, "arm")
	deleted := time.Now()
	require.True(t, s.Delete("arm"))
	require.Equal(t, 76, p.awaitEnd())
	took := p.awaitAllGone().Sub(deleted)
	require.Greater(t, took, 300*time.Millisecond)
	require.Less(t, took, 1300*time.Millisecond)
}

// The rest of the group has --kill-after to end, also when the command has ended.
func TestTheRestOfTheGroupHasTimeToEnd(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	p := launch(t, of(s), []string{"run", "arm", "--", "sh", "-c",
		`sh -c 'trap "sleep 0.3; echo tidied up; exit" TERM
			echo ready; while :; do sleep 0.02; done' & wait`})
	require.Equal(t, "ready", p.line())
	awaitHeartbeat(t, s, "arm")
	require.True(t, s.Delete("arm"))
	require.Equal(t, "tidied up", p.line())
	require.Equal(t, 76, p.awaitEnd())
}

// When the backend goes dark, the command has ended by the time that the lock expires
// there, even if it ignores SIGTERM. Of a lease of 1 s only 50 ms are left after SIGKILL:
// a busy machine may take longer.
func TestInTheDarkAllIsGoneBeforeTheLeaseEnds(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		ttl, sleep string
		late       time.Duration
	}{
		{"1s", `trap "" TERM; sleep 100`, time.Second},
		{"6s", "sleep 100", 0},
		{"8s", `trap "" TERM; sleep 100`, 0},
	} {
		for name, setUp := range kinds {
			t.Run(strings.Join([]string{name, row.ttl, row.sleep}, " "), func(t *testing.T) {
				t.Parallel()
				s := relukkotest.NewServer(t)
				setUp(s)
				command, pipe := traced(t, row.sleep)
				p := launch(t, of(s),
					append([]string{"run", "--ttl", row.ttl, "arm", "--"}, command...))
				require.Equal(t, "ready", p.line())
				awaitHeartbeat(t, s, "arm")
				s.GoDark()
				expires := lockOf(t, s, "arm").ExpiresAt

				gone := awaitEOF(t, pipe)
				require.True(t, gone.Before(expires.Add(row.late)), "%v after the lease",
					gone.Sub(expires))
				require.Equal(t, 76, p.awaitEnd())
				require.Contains(t, p.stderr.String(),
					`lock "arm" was lost: it was not renewed in time`)
			})
		}
	}
}

func TestARenewalThatIsRefused(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]relukkotest.Option{
		"over the stream": nil, "by plain requests": {relukkotest.WithoutStream()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t, opts...)
			p := launch(t, of(s), append([]string{"run", "arm", "--"}, family("sleep 100")...))
			require.Equal(t, "ready", p.line())
			for _, what := range []string{"GET", "PUT"} {
				s.AnswerNext(-1, relukkotest.On(what, "/v1/"), relukkotest.Answer{Status: 403})
			}
			s.DropWebSockets()
			require.Equal(t, 76, p.awaitEnd())
			p.awaitAllGone()
			require.Regexp(t, `lock "arm" was lost: it was not renewed: `+
				`http://127.0.0.1:\d+ does not let this API key keep alive lock`, p.stderr.String())
			require.Empty(t, s.Locks(), "what is still there is given back")
		})
	}
}

// An outage shorter than half of the lease does no harm.
func TestAShortOutage(t *testing.T) {
	t.Parallel()
	for name, setUp := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t)
			setUp(s)
			input, end := openInput(t)
			p := launch(t, of(s),
				[]string{"run", "--ttl", "4s", "arm", "--", "sh", "-c", "echo ready; cat"}, input)
			require.Equal(t, "ready", p.line())
			awaitHeartbeat(t, s, "arm")
			s.Stop()
			outage := time.NewTimer(1500 * time.Millisecond)
			<-outage.C
			renewed := lockOf(t, s, "arm").UpdatedAt
			s.Start(true)
			awaitRenewal(t, s, "arm", renewed)
			end.Close()
			require.Zero(t, p.awaitEnd())
			require.Empty(t, p.stderr.String())
		})
	}
}

// A loss that only the release detects, as without a stream in the first second, is reported too.
func TestALossFoundAtTheEnd(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t, relukkotest.WithoutStream())
	status, _, stderr := run(t, of(s), "run", "arm", "--", "sh", "-c", `"$0" rm arm`, program)
	require.Equal(t, 76, status)
	require.Contains(t, stderr, `lock "arm" was lost`)
	require.Contains(t, stderr, "The command had ended by itself")
}
