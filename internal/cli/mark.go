package cli

import (
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// creatorOf returns the creator of a lock without the mark that Lock appends.
func creatorOf(lock api.Lock) string {
	creator, _, _ := wire.CutMark(lock.Creator)
	return creator
}
