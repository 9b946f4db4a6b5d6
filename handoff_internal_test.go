package relukko

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
)

// A lock that is handed off costs the goroutines that wait nothing, however many they are: they are
// told only of another lock.
func TestHandoffCostsThoseThatWaitNothing(t *testing.T) {
	var turn turn
	turn.init()
	waiting := make([]report, 1000)
	for i := range waiting {
		turn.waiting[&waiting[i]] = struct{}{}
		defer waiting[i].end()
	}
	first, second := &api.Lock{ID: "1"}, &api.Lock{ID: "2"}
	turn.holderIs(first)
	require.Zero(t, testing.AllocsPerRun(100, func() { turn.holderIs(first) }))
	for i := range waiting {
		require.Equal(t, first, waiting[i].holder)
	}
	turn.holderIs(second)
	for i := range waiting {
		require.Equal(t, second, waiting[i].holder)
	}
}
