package boltstore_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

func marked(name string) store.NewLock {
	in := newLock(name)
	in.Mark = "mark"
	return in
}

// TestAClaimWaitsForTheCreateBeforeIt, whose disk does not respond, and finds its lock.
func TestAClaimWaitsForTheCreateBeforeIt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := open(t, newPath(t))
		g := hold(s, true)
		in := marked("robot-arm-1")
		made := later(func() error { _, err := s.Create(context.Background(), in); return err })
		<-g.reached
		_, _, err := s.Claim(t.Context(), owner, "mark")
		require.ErrorIs(t, err, store.ErrUnavailable, "it returns nothing before it is known")
		require.ErrorIs(t, <-made, store.ErrUnavailable)
		var locks []store.Lock
		time.Sleep(time.Millisecond)
		close(g.pass)
		synctest.Wait()
		_, locks, err = s.Claim(t.Context(), owner, "mark")
		require.NoError(t, err)
		require.Len(t, locks, 1)
		require.Equal(t, in.ID, locks[0].ID)
	})
}

// TestACreateThatIsQueuedIsSuperseded by a claim that is queued before it, and the other way round
// the claim finds the lock after the sync that both share.
func TestACreateThatIsQueuedIsSuperseded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := open(t, newPath(t))
		g := hold(s, true)
		begun := later(func() error {
			_, err := s.Create(context.Background(), newLock("begun"))
			return err
		})
		<-g.reached
		created := later(func() error {
			_, err := s.Create(context.Background(), marked("robot-arm-1"))
			return err
		})
		synctest.Wait()
		var found []store.Lock
		claimed := later(func() (err error) {
			_, found, err = s.Claim(context.Background(), owner, "mark")
			return err
		})
		synctest.Wait()
		late := later(func() error {
			_, err := s.Create(context.Background(), marked("robot-arm-2"))
			return err
		})
		synctest.Wait()
		g.pass <- struct{}{}
		require.NoError(t, <-begun)
		<-g.reached
		requireNotYet(t, claimed) // what it found is not durable yet
		close(g.pass)
		require.NoError(t, <-created)
		require.NoError(t, <-claimed)
		require.Len(t, found, 1)
		require.Equal(t, "robot-arm-1", found[0].Name)
		require.ErrorIs(t, <-late, store.ErrSuperseded)
		require.Len(t, s.Content().Locks, 2)
	})
}

// TestClaimsOutliveAFailedWrite: the store reads what is on the disk, where there are no claims.
func TestClaimsOutliveAFailedWrite(t *testing.T) {
	s := open(t, newPath(t))
	claim, _, err := s.Claim(t.Context(), owner, "mark")
	require.NoError(t, err)
	broken := true
	s.HookWrites(func(page []byte, at int64, write boltstore.WriteFunc) (int, error) {
		if broken {
			broken = false
			return 0, errDisk
		}
		return write(page, at)
	})
	_, err = s.Create(t.Context(), newLock("robot-arm-1"))
	require.ErrorIs(t, err, store.ErrUnavailable)
	_, err = s.Create(t.Context(), marked("robot-arm-1"))
	require.ErrorIs(t, err, store.ErrSuperseded)
	again, _, err := s.Claim(t.Context(), owner, "mark")
	require.NoError(t, err)
	require.Greater(t, again, claim)
	in := marked("robot-arm-1")
	in.Claim = claim
	_, err = s.Create(t.Context(), in)
	require.ErrorIs(t, err, store.ErrSuperseded)
	in.Claim = again
	_, err = s.Create(t.Context(), in)
	require.NoError(t, err)
}

// TestAClaimCostsNoTransaction.
func TestAClaimCostsNoTransaction(t *testing.T) {
	s := open(t, newPath(t))
	commits := s.CountCommits()
	for range 10 {
		_, _, err := s.Claim(t.Context(), owner, "mark")
		require.NoError(t, err)
	}
	require.Zero(t, commits())
}
