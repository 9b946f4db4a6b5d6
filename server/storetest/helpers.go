package storetest

import (
	"crypto/rand"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// tested is a store with what most tests do with it.
type tested struct {
	store.Store
	t *testing.T
}

const (
	owner = "ci-runner" // of newLock
	mark  = "k3v5x2m4q7ab"
)

func newLock(name string) store.NewLock {
	return store.NewLock{
		ID: newID(), Name: name, IP: "192.0.2.7", TTL: 10 * time.Minute, Owner: owner,
	}
}

// markedLock is a lock to be created with the mark, by the owner of newLock.
func markedLock(name, mark string) store.NewLock {
	in := newLock(name)
	in.Mark, in.Creator = mark, ptr("bench-7 #"+mark)
	return in
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (s tested) create(in store.NewLock) store.Lock {
	s.t.Helper()
	lock, err := s.Create(s.t.Context(), in)
	require.NoError(s.t, err)
	return lock
}

func (s tested) update(id string, change store.Change) store.Lock {
	s.t.Helper()
	lock, err := s.Update(s.t.Context(), id, change)
	require.NoError(s.t, err)
	return lock
}

func (s tested) delete(id string) store.Lock {
	s.t.Helper()
	lock, err := s.Delete(s.t.Context(), id, store.Ending{})
	require.NoError(s.t, err)
	return lock
}

func (s tested) cancel(mark string) []store.Lock {
	s.t.Helper()
	locks, err := s.Cancel(s.t.Context(), owner, mark)
	require.NoError(s.t, err)
	return locks
}

// expire sets the lock's expiry to ago before the store's now.
func (s tested) expire(id string, ago time.Duration) store.Lock {
	lease := -ago
	return s.update(id, store.Change{Lease: &lease})
}

func (s tested) requireGone(lock store.Lock) {
	s.t.Helper()
	_, err := s.Get(s.t.Context(), lock.ID)
	require.ErrorIs(s.t, err, store.ErrGone)
	_, err = s.Holder(s.t.Context(), lock.Name)
	require.ErrorIs(s.t, err, store.ErrGone)
}

func ptr[T any](v T) *T { return &v }

func concurrently(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
