package httpapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

func TestReleasesAreRememberedForAWhile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var rs releases
		lock := func(id string) *store.Lock {
			creator := wire.WithMark("me", "k3v5x2m4q7ab")
			return &store.Lock{ID: id, Name: "arm", Creator: &creator}
		}
		rs.add(lock("1"))
		found, ok := rs.find("1", "k3v5x2m4q7ab")
		require.True(t, ok)
		require.Equal(t, *lock("1"), found)
		_, ok = rs.find("1", "aaaaaaaaaaaa")
		require.False(t, ok, "another's mark")
		_, ok = rs.find("2", "k3v5x2m4q7ab")
		require.False(t, ok)
		time.Sleep(rememberReleases + time.Second)
		_, ok = rs.find("1", "k3v5x2m4q7ab")
		require.False(t, ok)
		for i := range 2 * maxReleases {
			rs.add(lock(fmt.Sprint(i)))
		}
		require.LessOrEqual(t, len(rs.locks), maxReleases)
		require.LessOrEqual(t, len(rs.order), maxReleases)
		rs.find("", "")
		_, ok = rs.find(fmt.Sprint(2*maxReleases-1), "k3v5x2m4q7ab")
		require.True(t, ok)
	})
}
