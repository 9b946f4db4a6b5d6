package boltstore_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	workers        = 6
	namesPerWorker = 3
)

// step is what a child says before (Begin) and after it does something with the lock of a name. A
// name is one worker's, who does one thing at a time.
type step struct {
	Begin bool
	Op    string // create, update, delete or call off
	Name  string
	Mark  string // of create and call off
	Lock  *told  // what was answered; nil: it is gone
	New   string // the new lock's id, or the new creator
}

// told is a lock without its JSON form, which is for clients.
type told store.Lock

// work is the child: it creates, updates and deletes until it is killed.
func work(path string) error {
	// Tokens must rise without its help.
	s, err := boltstore.OpenWith(path, boltstore.WithClock(longAgo))
	if err != nil {
		return err
	}
	s.KeepHistory(keepAll)
	var mu sync.Mutex
	tell := func(st step) {
		line, err := json.Marshal(st)
		if err != nil {
			panic(err)
		}
		mu.Lock()
		defer mu.Unlock()
		os.Stdout.Write(append(line, '\n')) // at once, in one piece
	}
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for i := range workers {
		wg.Go(func() { errs <- toil(s, i, tell) })
	}
	return <-errs
}

// toil is one worker. It knows which of its locks exist, and their marks, from the store alone.
func toil(s *boltstore.Store, worker int, tell func(step)) error {
	ctx := context.Background()
	marks := map[string]string{} // of those made by this process
	for {
		name := fmt.Sprint("robot-arm-", worker, "-", rand.N(namesPerWorker))
		held, err := s.Holder(ctx, name)
		st := step{Begin: true, Name: name}
		switch dice := rand.N(4); {
		case err != nil:
			in := newLock(name)
			in.Mark = in.ID[:13]
			st.Op, st.New, st.Mark = "create", in.ID, in.Mark
			tell(st)
			var lock store.Lock
			lock, err = s.Create(ctx, in)
			st.Lock = (*told)(&lock)
			marks[lock.ID] = in.Mark
		case dice == 0:
			st.Op = "delete"
			tell(st)
			_, err = s.Delete(ctx, held.ID, store.Ending{})
		case dice == 1 && marks[held.ID] != "":
			st.Op, st.Mark = "cancel", marks[held.ID]
			tell(st)
			_, err = s.Cancel(ctx, owner, st.Mark)
		default:
			st.Op, st.New = "update", newID()
			tell(st)
			var lock store.Lock
			lock, err = s.Update(ctx, held.ID, store.Change{Creator: &st.New, Extend: time.Second})
			st.Lock = (*told)(&lock)
		}
		if err != nil {
			return err
		}
		st.Begin = false
		tell(st)
	}
}

// ledger is what the parent knows of the store.
type ledger struct {
	t         *testing.T
	locks     map[string]*told // acknowledged, by name
	underWay  map[string]step
	off       []string // marks cancelled, acknowledged
	tokens    map[uint64]string
	highest   uint64
	confirmed int
	made      map[string]bool // ids of all locks that were ever there
}

// read takes in what a child said until it was killed.
func (l *ledger) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var st step
		require.NoError(l.t, json.Unmarshal(lines.Bytes(), &st), lines.Text())
		if st.Begin {
			l.underWay[st.Name] = st
			continue
		}
		delete(l.underWay, st.Name)
		l.confirmed++
		if st.Op == "cancel" {
			l.off = append(l.off, st.Mark)
		}
		if st.Op == "create" {
			l.newToken(st.Lock)
		}
		l.locks[st.Name] = st.Lock
	}
}

// newToken is for a lock whose token must not have been seen before. That of one name, who has one
// worker, rise.
func (l *ledger) newToken(lock *told) {
	l.made[lock.ID] = true
	require.NotContains(l.t, l.tokens, lock.FencingToken, "a token twice")
	for token, name := range l.tokens {
		if name == lock.Name {
			require.Greater(l.t, lock.FencingToken, token, "a token that falls")
			delete(l.tokens, token) // the highest is enough
		}
	}
	l.tokens[lock.FencingToken] = lock.Name
	l.highest = max(l.highest, lock.FencingToken)
}

// check compares what is there after a crash with what was acknowledged, and with what was under
// way.
func (l *ledger) check(s *boltstore.Store) {
	there := map[string]*told{}
	locks, err := s.List(l.t.Context())
	require.NoError(l.t, err)
	for _, lock := range locks {
		there[lock.Name] = (*told)(&lock)
	}
	for worker := range workers {
		for i := range namesPerWorker {
			name := fmt.Sprint("robot-arm-", worker, "-", i)
			got, want := there[name], l.locks[name]
			delete(there, name)
			st, ambiguous := l.underWay[name]
			switch {
			case !ambiguous:
				require.Equal(l.t, want, got, "acknowledged: %s", name)
			case st.Op == "create" && got != nil:
				require.Equal(l.t, st.New, got.ID)
				l.newToken(got)
			case st.Op == "update" && got != nil && got.Creator != nil && *got.Creator == st.New:
				require.Equal(l.t, want.ID, got.ID)
				require.Equal(l.t, want.ExpiresAt.Add(time.Second), got.ExpiresAt)
			case (st.Op == "delete" || st.Op == "cancel") && got == nil:
			default:
				require.Equal(l.t, want, got, "%s under way: %s", st.Op, name)
			}
			l.locks[name] = got
		}
	}
	require.Empty(l.t, there, "never heard of")
	for _, mark := range l.off {
		in := newLock("for a straggler")
		in.Mark = mark
		_, err := s.Create(l.t.Context(), in)
		require.ErrorIs(l.t, err, store.ErrCancelled)
	}
	fresh := create(l.t, s, "another name")
	require.Greater(l.t, fresh.FencingToken, l.highest)
	l.newToken((*told)(&fresh))
	remove(l.t, s, fresh.ID)
	clear(l.underWay)
	l.checkHistory(s)
}

// checkHistory: each lock that was ever there is held, or has one entry.
func (l *ledger) checkHistory(s *boltstore.Store) {
	seen := map[string]bool{}
	locks, err := s.List(l.t.Context())
	require.NoError(l.t, err)
	for _, lock := range locks {
		seen[lock.ID] = true
	}
	for _, e := range historyOf(l.t, s) {
		require.False(l.t, seen[e.ID], "%s is held, or has two entries", e.Name)
		seen[e.ID] = true
	}
	require.Equal(l.t, l.made, seen)
}

// TestKill9: no lock acknowledged is missing, none acknowledged as deleted is back, tokens never
// repeat or fall, and each lock that has ended has one entry in the history.
func TestKill9(t *testing.T) {
	t.Parallel()
	path := onDisk(t)
	l := &ledger{t: t, locks: map[string]*told{}, underWay: map[string]step{},
		tokens: map[uint64]string{}, made: map[string]bool{}}
	ambiguous := 0
	for range 50 {
		cmd := child(t, "work", path)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewReader(out)
		_, err = lines.Peek(1) // it is at work
		require.NoError(t, err, stderr.String())
		kill := time.AfterFunc(rand.N(40*time.Millisecond), func() { cmd.Process.Kill() })
		l.read(lines)
		kill.Stop()
		require.Error(t, cmd.Wait())
		require.Empty(t, stderr.String())
		ambiguous += len(l.underWay)

		s, err := boltstore.OpenWith(path, boltstore.WithClock(longAgo))
		require.NoError(t, err)
		s.KeepHistory(keepAll)
		l.check(s)
		require.NoError(t, s.Close())
	}
	t.Logf("%d steps acknowledged, %d under way when killed, %d marks cancelled", l.confirmed,
		ambiguous, len(l.off))
	require.Greater(t, l.confirmed, 50)
	require.Greater(t, ambiguous, 50)
	require.NotEmpty(t, l.off)
}

// TestKill9AtTheStart: whenever the first start is cut short, the next one succeeds.
func TestKill9AtTheStart(t *testing.T) {
	t.Parallel()
	made := 0
	for range 30 {
		path := onDisk(t)
		cmd := child(t, "work", path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		kill := time.AfterFunc(rand.N(30*time.Millisecond), func() { cmd.Process.Kill() })
		heard, err := io.ReadAll(out)
		require.NoError(t, err)
		kill.Stop()
		require.Error(t, cmd.Wait())
		if _, err := os.Stat(path); err == nil {
			made++
		} else {
			require.Empty(t, heard)
		}
		s, err := boltstore.OpenWith(path)
		require.NoError(t, err)
		create(t, s, "robot-arm-1")
		require.NoError(t, s.Close())
	}
	t.Logf("%d of 30 had made the file", made)
}
