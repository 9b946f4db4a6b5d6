//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// locked is a backend with some locks.
func locked(t testing.TB, names ...string) (s *relukkotest.Server, ids map[string]string) {
	t.Helper()
	s, ids = relukkotest.NewServer(t), make(map[string]string)
	for _, name := range names {
		lock, err := s.Client().Create(t.Context(), name, "Ada@bench/7 #k3v9x2m4q7ab")
		require.NoError(t, err)
		ids[name] = lock.ID
	}
	return s, ids
}

func succeeds(t testing.TB, s *relukkotest.Server, args ...string) (stdout string) {
	t.Helper()
	status, stdout, stderr := run(t, of(s), args...)
	require.Zero(t, status, stderr)
	return stdout
}

// The number of waiters is shown where the backend reports it.
func TestLsWithWaiters(t *testing.T) {
	t.Parallel()
	s, _ := locked(t, "arm")
	p := launch(t, of(s), []string{"run", "arm", "--", "true"})
	p.stderr.await(t, "waiting for lock")
	eventually(t, "it waits", func() bool {
		return strings.Contains(succeeds(t, s, "ls"), "  1        ")
	})
	require.Regexp(t, `waiters +1`, succeeds(t, s, "get", "arm"))
	require.True(t, s.Delete("arm"))
	require.Zero(t, p.awaitEnd())
}

func TestAcquireAndRelease(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	id := strings.TrimSpace(succeeds(t, s, "acquire", "staging", "--for", "2h", "--creator",
		"job 7"))
	lock := lockOf(t, s, "staging")
	require.Equal(t, id, lock.ID)
	require.WithinDuration(t, time.Now().Add(2*time.Hour), lock.ExpiresAt, patience)
	require.Regexp(t, `^job 7 #`, *lock.Creator)

	succeeds(t, s, "acquire", "prod")
	require.NotContains(t, *lockOf(t, s, "prod").Creator, "/", "the process has ended")
	require.True(t, s.Delete("prod"))

	p := launch(t, of(s), []string{"acquire", "staging", "--wait", "1m", "--json"})
	p.stderr.await(t, "waiting for lock")
	succeeds(t, s, "release", id)
	status, stdout, stderr := p.end()
	require.Zero(t, status, stderr)
	var next api.Lock
	require.NoError(t, json.Unmarshal([]byte(stdout), &next))
	require.NotEqual(t, id, next.ID)
	require.WithinDuration(t, time.Now().Add(time.Hour), next.ExpiresAt, patience)

	// The id of the first lock does not release the second.
	status, _, stderr = run(t, of(s), "release", id)
	require.Equal(t, 76, status)
	require.Contains(t, stderr, "was lost: it had expired, or somebody had deleted it")
	require.Equal(t, next.ID, lockOf(t, s, "staging").ID)

	s.CutNext(1, relukkotest.On("DELETE", "/v1/locks/"))
	succeeds(t, s, "release", next.ID)
	require.Empty(t, s.Locks())
}

func TestAcquireAsksForItsTime(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	s.AnswerNext(-1, relukkotest.On("PUT", "/v1/locks/{id}/keep_alive"),
		relukkotest.Answer{Status: 403})
	status, stdout, stderr := run(t, of(s), "acquire", "staging")
	require.Equal(t, 69, status, stderr)
	require.Empty(t, stdout)
	require.Empty(t, s.Locks())
}

func TestWatch(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	p, j := launch(t, of(s), []string{"watch"}), launch(t, of(s), []string{"watch", "--json"})
	p.stderr.await(t, "relukko: watching "+s.URL)
	j.stderr.await(t, "relukko: watching "+s.URL)
	lock, err := s.Client().Create(t.Context(), "arm", "Ada")
	require.NoError(t, err)
	require.Regexp(t, `^\d\d:\d\d:\d\d  created  arm  Ada, expires in (10m|9m59s)  `+lock.ID+`$`,
		p.line())
	require.True(t, s.Delete("arm"))
	require.Regexp(t, `^\d\d:\d\d:\d\d  deleted  arm  Ada  `+lock.ID+`$`, p.line())

	for _, kind := range []string{"created", "deleted"} {
		var event struct {
			Event, ID string
			Name      string `json:"lock_name"`
			Lock      api.Lock
		}
		require.NoError(t, json.Unmarshal([]byte(j.line()), &event))
		require.Equal(t, kind, event.Event)
		require.Equal(t, "arm", event.Name)
		require.Equal(t, lock.ID, event.ID)
		require.Equal(t, "Ada", event.Lock.Creator)
	}

	s.Stop()
	p.stderr.await(t, "relukko: no events from "+s.URL+" at the moment, retrying")
	s.Start(true)
	p.stderr.await(t, "retrying\nrelukko: watching")
}

// Most backends do not say which lock it was, and some have no WebSocket at all.
func TestWatchOfAnOlderBackend(t *testing.T) {
	t.Parallel()
	s, _ := locked(t, "arm")
	original(s)
	p, j := launch(t, of(s), []string{"watch"}), launch(t, of(s), []string{"watch", "--json"})
	p.stderr.await(t, "relukko: watching "+s.URL)
	j.stderr.await(t, "relukko: watching "+s.URL)
	require.True(t, s.Delete("arm"))
	require.Regexp(t, `^\d\d:\d\d:\d\d  deleted  \(the backend does not say which\)$`, p.line())
	require.Regexp(t, `^\{"time":"[^"]+","event":"deleted"\}$`, j.line())

	s.RefuseWebSockets(true)
	p = launch(t, of(s), []string{"watch"})
	p.stderr.await(t, "relukko: no events from "+s.URL+" at the moment, retrying")
}

// A watch ends with the first line that nothing reads, as any program in a pipeline.
func TestWatchEndsWhenNobodyReads(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	nobody, broken, err := os.Pipe()
	require.NoError(t, err)
	p := launch(t, of(s), []string{"watch", "--json"}, func(c *exec.Cmd) { c.Stdout = broken })
	defer broken.Close()
	p.stderr.await(t, "relukko: watching "+s.URL)
	_, err = s.Client().Create(t.Context(), "arm", "Ada")
	require.NoError(t, err)
	line := make([]byte, 4096)
	n, err := nobody.Read(line) // at once, although it is no terminal
	require.NoError(t, err)
	require.Contains(t, string(line[:n]), `"event":"created"`)
	breakPipe(t, nobody, broken)
	require.True(t, s.Delete("arm"))
	require.Equal(t, 128+int(syscall.SIGPIPE), p.awaitEnd())
}
