package pgstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// TestCreateAllLeavesANameToWhoWaitedLonger on another server, for the time of a turn: that server
// may be gone. The other names are free.
func TestCreateAllLeavesANameToWhoWaitedLonger(t *testing.T) {
	t.Parallel()
	url := empty(t)
	a, b := open(t, url), open(t, url)
	held, err := a.Create(t.Context(), newLock("b"))
	require.NoError(t, err)
	elder := newLock("b")
	elder.Waited = 10 * time.Second
	_, err = b.Create(t.Context(), elder)
	require.ErrorIs(t, err, store.ErrHeld)
	_, err = a.Delete(t.Context(), held.ID, store.Ending{})
	require.NoError(t, err)

	all := []store.NewLock{newLock("a"), newLock("b")}
	holders, err := a.CreateAll(t.Context(), all)
	require.ErrorIs(t, err, store.ErrHeld)
	require.Equal(t, []store.Lock{{}, {Name: "b"}}, holders)
	began := time.Now()
	require.Eventually(t, func() bool {
		all[0].ID, all[1].ID = newID(), newID()
		_, err = a.CreateAll(t.Context(), all)
		return err == nil
	}, 5*time.Second, 20*time.Millisecond)
	require.Less(t, time.Since(began), 3*time.Second)
	require.Greater(t, time.Since(began), 300*time.Millisecond, "it has its turn")
}
