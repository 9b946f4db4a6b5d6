package cli

import (
	"strings"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// creatorOf returns the creator of a lock without the mark that Lock appends.
func creatorOf(lock api.Lock) string {
	creator, _, _ := wire.CutMark(lock.Creator)
	return creator
}

// cutReason returns the parts of a creator as WithReason makes it: "user@host (reason)".
func cutReason(creator string) (who, reason string) {
	who, after, _ := strings.Cut(creator, " (")
	if reason, ok := strings.CutSuffix(after, ")"); ok {
		return who, reason
	}
	return creator, ""
}
