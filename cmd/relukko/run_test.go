//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/relukkotest"
	"gitlab.com/relukko/relukko-go/server/store"
)

func TestTheCommandKnowsItsLock(t *testing.T) {
	t.Parallel()
	const script = `printf '%s|%s|' "$RELUKKO_LOCK_ID" "$RELUKKO_LOCK_NAME"
		printf %s "$RELUKKO_FENCING_TOKEN"; "$0" ls --json`
	for name, row := range map[string]struct {
		args   []string
		setUp  func(*relukkotest.Server)
		names  string
		tokens int
	}{
		"one": {args: []string{"a b"}, names: "a b", tokens: 1},
		"several, in order": {args: []string{"--lock", "b", "--lock", "a", "c", "--lock", "b"},
			names: "a\nb\nc", tokens: 3},
		"by --lock alone": {args: []string{"--lock", "b"}, names: "b", tokens: 1},
		"no tokens": {args: []string{"a", "--lock", "b"}, setUp: original,
			names: "a\nb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t)
			if row.setUp != nil {
				row.setUp(s)
			}
			status, stdout, stderr := run(t,
				append(of(s), "RELUKKO_LOCK_NAME=inherited", "RELUKKO_FENCING_TOKEN=7"),
				append(append([]string{"run"}, row.args...), "--", "sh", "-c", script, program)...)
			require.Zero(t, status, stderr)
			require.Empty(t, stderr)
			parts := strings.SplitN(stdout, "|", 3)
			require.Equal(t, row.names, parts[1])
			tokens, list, _ := strings.Cut(parts[2], "[")
			require.Len(t, strings.Fields(tokens), row.tokens, tokens)
			for id := range strings.Lines(parts[0]) {
				require.Contains(t, list, strings.TrimSpace(id), "held while it runs")
			}
			require.Empty(t, s.Locks(), "released")
		})
	}
}

// The command of an inner relukko run gets the variables of the inner lock, each once:
// programs differ in which of two values they take.
func TestGuardedCommandsWithinOneAnother(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	status, stdout, stderr := run(t, of(s), "run", "outer", "--", program, "run", "inner", "--",
		"env")
	require.Zero(t, status, stderr)
	require.Equal(t, 1, strings.Count(stdout, "\nRELUKKO_LOCK_NAME="), stdout)
	require.Contains(t, stdout, "\nRELUKKO_LOCK_NAME=inner\n")
	require.Equal(t, 1, strings.Count(stdout, "\nRELUKKO_LOCK_ID="), stdout)
	require.Equal(t, 1, strings.Count(stdout, "\nRELUKKO_FENCING_TOKEN="), stdout)
}

// A command that asks for the lock that it runs under would wait for itself.
func TestTheSameLockWithinItself(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	for name, row := range map[string]struct {
		inner  []string
		status int
		says   string
	}{
		"run": {inner: []string{"run", "b", "--", "true"}, status: 64,
			says: `relukko: lock "b" is held by the relukko run that this command runs in`},
		"acquire":      {inner: []string{"acquire", "a"}, status: 64, says: "use --nested\n"},
		"another lock": {inner: []string{"run", "c", "--", "true"}},
		"nested": {inner: []string{"run", "--nested", "--no-wait", "a", "--", "true"}, status: 75,
			says: `lock "a" is held by`},
	} {
		args := append([]string{"run", "--lock", "a", "--lock", "b", "--", program}, row.inner...)
		status, _, stderr := run(t, of(s), args...)
		require.Equal(t, row.status, status, "%s: %s", name, stderr)
		require.Contains(t, stderr, row.says, name)
	}
	for _, middle := range [][]string{
		{program, "run", "c", "--"},
		{program, "run", "c", "--", program, "run", "d", "--"},
		{"env", "-u", "RELUKKO_HELD_LOCKS"}, // that of a program that does not set it
	} {
		status, _, stderr := run(t, of(s), append(append([]string{"run", "a", "--"}, middle...),
			program, "run", "--wait", "10s", "a", "--", "true")...)
		require.Equal(t, 64, status, stderr)
		require.Contains(t, stderr, `relukko: lock "a" is held by the relukko run`)
	}
	require.Empty(t, s.Locks())
}

func TestInputAndOutputPassThrough(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	s := relukkotest.NewServer(t)
	sum := sha256.New()
	source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sum)
	p := launch(t, of(s), []string{"run", "x", "--", "cat"}, stdin(source))
	passed := sha256.New()
	n, err := io.Copy(passed, p.stdout)
	require.NoError(t, err)
	require.EqualValues(t, size, n)
	require.Zero(t, p.awaitEnd(), p.stderr)
	require.Equal(t, hex.EncodeToString(sum.Sum(nil)), hex.EncodeToString(passed.Sum(nil)))
}

func TestOtherDescriptorsPassThrough(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	require.NoError(t, err)
	defer file.Close()
	p := launch(t, of(s), []string{"run", "x", "--", "sh", "-c", "echo here >&4"},
		func(c *exec.Cmd) { c.ExtraFiles = append(c.ExtraFiles, file) })
	require.Zero(t, p.awaitEnd(), p.stderr)
	content, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	require.Equal(t, "here\n", string(content))
}

func TestTwoHundredCount(t *testing.T) {
	t.Parallel()
	const runs, atOnce = 200, 20
	s := relukkotest.NewServer(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("0\n"), 0o600))
	var batch sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for range runs {
		turns <- struct{}{}
		p := launch(t, of(s),
			[]string{"run", "counter", "--", "sh", "-c", "n=$(cat f); echo $((n+1)) > f"}, in(dir))
		batch.Go(func() {
			if status := p.awaitEnd(); status != 0 {
				t.Errorf("exit status %d: %s", status, p.stderr)
			}
			<-turns
		})
	}
	batch.Wait()
	content, err := os.ReadFile(filepath.Join(dir, "f"))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintln(runs), string(content))
	require.Empty(t, s.Locks())
}

// Commands that want the same locks in different orders never wait for each other.
func TestSeveralLocksDoNotDeadlock(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	var all sync.WaitGroup
	for i := range 20 {
		names := []string{"a", "b", "c"}
		rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		p := launch(t, of(s),
			[]string{"run", "--lock", names[0], "--lock", names[1], names[2], "--", "true"})
		all.Go(func() {
			if status := p.awaitEnd(); status != 0 {
				t.Errorf("%d: exit status %d: %s", i, status, p.stderr)
			}
		})
	}
	all.Wait()
	require.Empty(t, s.Locks())
}

// createdUntil returns a function that returns the names of all locks that were created since
// createdUntil has returned, until the last one.
func createdUntil(t testing.TB, s *relukkotest.Server, last string) (names func() []string) {
	t.Helper()
	w, err := s.Client().Watch(t.Context())
	require.NoError(t, err)
	t.Cleanup(w.Close)
	require.Equal(t, api.EventConnected, (<-w.Events()).Kind)
	return func() (names []string) {
		for event := range w.Events() {
			switch {
			case event.Kind != api.EventCreated:
			case event.Name == last:
				return names
			default:
				names = append(names, event.Name)
			}
		}
		return names
	}
}

func TestSeveralLocksAreAcquiredAllOrNone(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		args    []string
		opts    []relukkotest.Option
		created []string
	}{
		"not waited for": {args: []string{"--no-wait"}},
		"not in time":    {args: []string{"--wait", "2"}},
		"not waited for, plain requests": {args: []string{"--no-wait"},
			opts:    []relukkotest.Option{relukkotest.WithoutStream()},
			created: []string{"a"}}, // c, which is free, is never asked for
		"not in time, plain requests": {args: []string{"--wait", "2"},
			opts:    []relukkotest.Option{relukkotest.WithoutStream()},
			created: []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t, row.opts...)
			_, err := s.Client().Create(t.Context(), "b", "Ada")
			require.NoError(t, err)
			created := createdUntil(t, s, "the end")
			status, _, stderr := run(t, of(s),
				append(append([]string{"run"}, row.args...),
					"--lock", "a", "--lock", "b", "--lock", "c", "--", "true")...)
			require.Equal(t, 75, status, stderr)
			require.Contains(t, stderr, `lock "b"`)
			require.Contains(t, stderr, "held by Ada")
			require.Len(t, s.Locks(), 1, "b")
			_, err = s.Client().Create(t.Context(), "the end", "Ada")
			require.NoError(t, err)
			require.Equal(t, row.created, created())
		})
	}
}

// Several locks are acquired together: none is held during the wait.
func TestSeveralLocksAreWaitedForTogether(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	_, err := s.Client().Create(t.Context(), "b", "Ada")
	require.NoError(t, err)
	p := launch(t, of(s), []string{"run", "--lock", "a", "--lock", "b", "--", "true"})
	p.stderr.await(t, `waiting for lock "b", 1st in the queue, held by Ada`)
	require.Len(t, s.Locks(), 1, "b")
	require.True(t, s.Delete("b"))
	require.Zero(t, p.awaitEnd(), p.stderr)
	require.Contains(t, p.stderr.String(), `relukko: acquired locks "a, b" after `)
	require.Empty(t, s.Locks())
}

// A lock that is deleted during the wait for the next is acquired again.
func TestALockLostBeforeTheCommandBeginsIsAcquiredAgain(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t, relukkotest.WithoutStream())
	_, err := s.Client().Create(t.Context(), "b", "Ada")
	require.NoError(t, err)
	p := launch(t, of(s), []string{"run", "--lock", "a", "--lock", "b", "--", "true"})
	p.stderr.await(t, `waiting for lock "b"`)
	awaitHeartbeat(t, s, "a")
	before := lockOf(t, s, "a").ID
	require.True(t, s.Delete("a"))
	eventually(t, "a is acquired again", func() bool {
		for _, lock := range s.Locks() {
			if lock.Name == "a" && lock.ID != before {
				return true
			}
		}
		return false
	})
	require.True(t, s.Delete("b"))
	require.Zero(t, p.awaitEnd(), p.stderr)
	require.Empty(t, s.Locks())
}

// lockOf returns the lock of that name.
func lockOf(t testing.TB, s *relukkotest.Server, name string) store.Lock {
	t.Helper()
	for _, lock := range s.Locks() {
		if lock.Name == name {
			return lock
		}
	}
	require.Fail(t, "no lock "+name)
	return store.Lock{}
}

// Without a terminal there is a line when the wait begins and one when it ends.
func TestTheWaitIsShown(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	_, err := s.Client().Create(t.Context(), "arm", "Ada #k3v9x2m4q7ab")
	require.NoError(t, err)
	p := launch(t, of(s), []string{"run", "arm", "--", "true"})
	p.stderr.await(t,
		`relukko: waiting for lock "arm", 1st in the queue, held by Ada (127.0.0.1) for `)
	require.True(t, s.Delete("arm"))
	status, _, stderr := p.end()
	require.Zero(t, status)
	require.Regexp(t,
		`\Arelukko: waiting for lock "arm".*\nrelukko: acquired lock "arm" after [0-9a-z.]+\n\z`,
		stderr)
}

func TestABackendThatIsDownIsRetried(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	s.Stop()
	p := launch(t, of(s), []string{"run", "arm", "--", "true"})
	p.stderr.await(t, "relukko: no Relukko backend at "+s.URL+": connection refused, retrying\n")
	s.Start(true)
	require.Zero(t, p.awaitEnd(), p.stderr)
}

// Without a terminal, too, the present holder is shown.
func TestAChangeOfHolderIsShown(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	first, end := openInput(t)
	a := launch(t, of(s),
		[]string{"run", "--creator", "A", "arm", "--", "sh", "-c", "echo in; cat"}, first)
	require.Equal(t, "in", a.line())
	second, endOfB := openInput(t)
	b := launch(t, of(s),
		[]string{"run", "--creator", "B", "arm", "--", "sh", "-c", "echo in; cat"}, second)
	b.stderr.await(t, "held by A")
	c := launch(t, of(s), []string{"run", "arm", "--", "true"})
	c.stderr.await(t, "held by A")
	require.NoError(t, end.Close())
	require.Equal(t, "in", b.line())
	c.stderr.await(t, "held by B")
	require.NoError(t, endOfB.Close())
	require.Zero(t, c.awaitEnd(), c.stderr)
}

// A failed release is reported and does not change the exit status.
func TestALockThatIsNotReleased(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t, relukkotest.WithoutStream())
	refuse := relukkotest.On("DELETE", "/v1/locks/")
	s.AnswerNext(-1, refuse, relukkotest.Answer{Status: 403})
	status, _, stderr := run(t, of(s), "run", "arm", "--", "sh", "-c", "exit 5")
	require.Equal(t, 5, status)
	require.Regexp(t, `relukko: lock "arm" was not released: http://\S+ does not let `+
		`this API key delete lock \S+ \(403`,
		stderr)
	require.Contains(t, stderr, "It expires by itself; `relukko rm arm` frees it sooner\n")
}

func TestALockThatIsNotReleasedOverTheStream(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	input, end := openInput(t)
	p := launch(t, of(s), []string{"run", "arm", "--", "sh", "-c", "echo ready; cat; exit 5"},
		input)
	require.Equal(t, "ready", p.line())
	s.GoDark()
	require.NoError(t, end.Close())
	require.Equal(t, 5, p.awaitEnd())
	require.Regexp(t, `relukko: lock "arm" was not released: no answer from http://\S+: .*\. `+
		"It expires by itself; `relukko rm arm` frees it sooner\n", p.stderr.String())
}

// Trust mode sends no request.
func TestTrustMode(t *testing.T) {
	t.Parallel()
	status, stdout, stderr := run(t,
		[]string{"RELUKKO_TRUST_ME_IT_IS_LOCKED=yes", "RELUKKO_BASE_URL=http://127.0.0.1:1"},
		"run", "arm", "--", "sh", "-c", `echo "$RELUKKO_LOCK_ID"; exit 4`)
	require.Equal(t, 4, status, stderr)
	require.Equal(t, "00000000-0000-0000-0000-000000000000\n", stdout)
	require.Contains(t, stderr, "RELUKKO_TRUST_ME_IT_IS_LOCKED")
}
