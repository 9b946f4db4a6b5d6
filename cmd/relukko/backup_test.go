//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/backup"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// many is the content of a store that was used for long.
func many(locks, entries int) *store.Content {
	began := time.Now().UTC().Truncate(time.Microsecond).Add(-time.Duration(entries) * time.Second)
	lock := func(i int) store.Lock {
		creator := fmt.Sprintf("runner@ci-%02d/4711 (nightly)", i%40)
		at := began.Add(time.Duration(i) * time.Second)
		return store.Lock{
			ID: fmt.Sprintf("%08x-%04x-4000-8000-%012x", rand.Uint32(), i>>16&0xffff,
				rand.Int64N(1<<32)<<16|int64(i&0xffff)),
			Name: fmt.Sprintf("bench-%03d", i%500), Creator: &creator, IP: "192.0.2.7",
			ExpiresAt: at.Add(time.Minute), CreatedAt: at, UpdatedAt: at, Owner: "ci-runner",
			FencingToken: uint64(at.UnixMicro()),
		}
	}
	c := &store.Content{Token: uint64(time.Now().UnixMicro())}
	for i := range locks {
		l := lock(entries + i)
		l.Name, l.FencingToken = fmt.Sprintf("lock-%05d", i), c.Token-uint64(locks-i)
		l.ExpiresAt = time.Now().UTC().Truncate(time.Microsecond).Add(24 * time.Hour)
		c.Locks = append(c.Locks, store.Record{Lock: l, Leased: i%2 == 0, Mark: ""})
	}
	c.History = func(yield func(store.Ended, error) bool) {
		for i := range entries {
			l := lock(i)
			e := store.Ended{Lock: l, At: l.CreatedAt.Add(time.Second), Waited: time.Second}
			e.By = l.Owner
			if !yield(e, nil) {
				return
			}
		}
	}
	return c
}

// boltWith makes a file with that content.
func boltWith(t testing.TB, c *store.Content) (spec string) {
	t.Helper()
	spec = boltAt(t)
	require.NoError(t, boltstore.Load(strings.TrimPrefix(spec, "bolt:"), c))
	return spec
}

// writeComparable writes content so that equal content is written equally, whatever the store:
// without its time, and with the times of the history as bbolt has them, which rise.
func writeComparable(b *bytes.Buffer, c *store.Content) error {
	history := c.History
	c.At, c.Token = time.Time{}, 0
	c.History = func(yield func(store.Ended, error) bool) {
		var last time.Time
		for e, err := range history {
			if next := last.Add(time.Microsecond); e.At.Before(next) {
				e.At = next
			}
			last = e.At
			if !yield(e, err) {
				return
			}
		}
	}
	return backup.Write(b, c)
}

// contentOf returns what a store has that no server uses.
func contentOf(t testing.TB, spec string) []byte {
	t.Helper()
	var b bytes.Buffer
	write := func(c *store.Content) error { return writeComparable(&b, c) }
	path, bolt := strings.CutPrefix(spec, "bolt:")
	if !bolt {
		require.NoError(t, pgstore.Dump(t.Context(), spec, write))
		return b.Bytes()
	}
	s, err := boltstore.Open(path, nil)
	require.NoError(t, err)
	require.NoError(t, s.Dump(t.Context(), write))
	require.NoError(t, s.Close())
	return b.Bytes()
}

// contentIn is contentOf for a backup.
func contentIn(t testing.TB, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	c, err := backup.Read(f)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, writeComparable(&b, c))
	return b.Bytes()
}

// requireEqual does not print what differs, which is large.
func requireEqual(t testing.TB, want, got []byte, what string) {
	t.Helper()
	require.True(t, bytes.Equal(want, got), what)
}

// prints runs the program, which succeeds, and returns what it printed.
func prints(t testing.TB, env []string, args ...string) (stdout, stderr string) {
	t.Helper()
	status, stdout, stderr := run(t, env, args...)
	require.Zero(t, status, "%v: %s", args, stderr)
	return stdout, stderr
}

// TestABackupUnderLoad is taken, verified and restored 20 times while clients create and delete. It
// has what was acknowledged before it began.
func TestABackupUnderLoad(t *testing.T) {
	t.Parallel()
	all := stores(t)
	all["memory"] = func(testing.TB) string { return "memory" }
	for name, storeOf := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveWith(t, nil, "--store", storeOf(t))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var mu sync.Mutex
			gone := map[string]bool{} // by id, of what was acknowledged
			var work sync.WaitGroup
			for i := range 3 {
				c := s.client()
				work.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						lock, err := c.Create(t.Context(), fmt.Sprint("lock ", i, "/", n%5), "Ada")
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						gone[lock.ID] = false
						mu.Unlock()
						if _, err := c.Delete(t.Context(), lock.ID); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						gone[lock.ID] = true
						mu.Unlock()
					}
				})
			}
			file := filepath.Join(t.TempDir(), "backup")
			for range 20 {
				mu.Lock()
				acknowledged := maps.Clone(gone)
				mu.Unlock()
				prints(t, s.env(), "backup", file)
				stdout, _ := prints(t, nil, "verify", file)
				require.Contains(t, stdout, file+" is whole: ")
				requireHas(t, file, acknowledged)
				restored := boltAt(t)
				prints(t, nil, "restore", file, "--to", restored)
				requireEqual(t, contentIn(t, file), contentOf(t, restored), "restored")
			}
			stop()
			work.Wait()
			require.Greater(t, len(gone), 100)
			s.stop()
		})
	}
}

// requireHas requires that each lock is in the backup once: held, or, if it was gone, ended.
func requireHas(t *testing.T, file string, acknowledged map[string]bool) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	c, err := backup.Read(f)
	require.NoError(t, err)
	ended := map[string]bool{}
	for _, r := range c.Locks {
		ended[r.ID] = false
	}
	for e, err := range c.History {
		require.NoError(t, err)
		_, twice := ended[e.ID]
		require.False(t, twice, e.ID)
		ended[e.ID] = true
	}
	for id, gone := range acknowledged {
		end, there := ended[id]
		require.True(t, there, id)
		require.True(t, end || !gone, "it is held again")
	}
}

// TestABackupThatIsKilled, or whose server is, leaves no file that passes for a whole one, and the
// backup before it as it was.
func TestABackupThatIsKilled(t *testing.T) {
	t.Parallel()
	const kills = 10
	spec := boltWith(t, many(1000, 100_000))
	file := filepath.Join(t.TempDir(), "backup")
	whole, killed := 0, 0
	for i := range 2 * kills {
		s := serveWith(t, nil, "--store", spec)
		victim := launch(t, s.env(), []string{"backup", file})
		ofServer := i%2 == 1
		timer := time.AfterFunc(rand.N(400*time.Millisecond), func() {
			if ofServer {
				s.cmd.Process.Kill()
			} else {
				victim.cmd.Process.Kill()
			}
		})
		status := victim.awaitEnd()
		timer.Stop()
		s.cmd.Process.Kill()
		s.awaitEnd()
		if status == 0 {
			whole++
		} else {
			killed++
		}
		if _, err := os.Stat(file); err == nil {
			prints(t, nil, "verify", file)
		} else {
			require.NotZero(t, status)
		}
	}
	t.Log(killed, "were killed,", whole, "were not")
	require.NotZero(t, killed)

	s := serveWith(t, nil, "--store", spec)
	cut := launch(t, s.env(), []string{"backup", "-"})
	piece := make([]byte, 1<<20)
	_, err := cut.stdout.Read(piece)
	require.NoError(t, err)
	cut.signal(syscall.SIGKILL)
	require.NoError(t, os.WriteFile(file, piece, 0o600))
	status, _, stderr := run(t, nil, "verify", file)
	require.Equal(t, 1, status)
	require.Regexp(t, "the backup is (cut short|damaged)", stderr)
	s.stop()
}

// TestARestoreThatIsKilled leaves nothing, or all.
func TestARestoreThatIsKilled(t *testing.T) {
	t.Parallel()
	s := serveWith(t, nil, "--store", boltWith(t, many(1000, 50_000)))
	file := filepath.Join(t.TempDir(), "backup")
	prints(t, s.env(), "backup", file)
	s.stop()
	want := contentIn(t, file)
	for name, storeOf := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, killed := storeOf(t), 0
			for range 10 {
				victim := launch(t, nil, []string{"restore", file, "--to", spec})
				timer := time.AfterFunc(rand.N(time.Second), func() {
					victim.cmd.Process.Kill()
				})
				status := victim.awaitEnd()
				timer.Stop()
				if status == 0 {
					requireEqual(t, want, contentOf(t, spec), "restored")
					spec = storeOf(t)
				} else {
					killed++
				}
			}
			require.NotZero(t, killed)
			path, bolt := strings.CutPrefix(spec, "bolt:")
			if _, err := os.Stat(path); !bolt || os.IsNotExist(err) {
				status, _, stderr := run(t, nil, "restore", file, "--to", spec)
				if status != 0 { // it was killed when all was there
					require.Contains(t, stderr, "is not empty")
				}
			}
			requireEqual(t, want, contentOf(t, spec), "restored")
		})
	}
}

// TestAMoveToPostgreSQLAndBack, with 10,000 locks: they are equal, and tokens rise.
func TestAMoveToPostgreSQLAndBack(t *testing.T) {
	t.Parallel()
	first := boltWith(t, many(10_000, 20_000))
	want := contentOf(t, first)
	database, second := postgres.Database(t), boltAt(t)
	last := uint64(0)
	uses := func(spec string) {
		t.Helper()
		s := serveWith(t, nil, "--store", spec)
		locks, err := s.client().List(t.Context())
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(locks), 10_000)
		lock, err := s.client().Create(t.Context(), spec, "Ada")
		require.NoError(t, err)
		require.Greater(t, lock.FencingToken, max(last, locks[len(locks)-1].FencingToken))
		last = lock.FencingToken
		for _, move := range [][]string{
			{"move", "--from", spec, "--to", boltAt(t)}, {"move", "--from", first, "--to", spec},
		} {
			status, _, stderr := run(t, nil, move...)
			require.Equal(t, 1, status, move)
			require.Contains(t, stderr, "Nothing was put into")
		}
		s.stop()
	}
	stdout, _ := prints(t, nil, "move", "--from", first, "--to", database)
	require.Contains(t, stdout, "10000 locks, 0 cancelled marks and a history of 20000")
	requireEqual(t, want, contentOf(t, first), "the old store stays as it is")
	requireEqual(t, want, contentOf(t, database), "in PostgreSQL")
	uses(database)
	moved := contentOf(t, database)
	prints(t, nil, "move", "--from", database, "--to", second)
	requireEqual(t, moved, contentOf(t, second), "and back")
	uses(second)

	status, _, stderr := run(t, nil, "move", "--from", first, "--to", database)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "the store in this database is not empty")
	status, _, stderr = run(t, nil, "move", "--from", first, "--to", second)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "there is a file already")
}
