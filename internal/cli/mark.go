package cli

import (
	"regexp"

	"gitlab.com/relukko/relukko-go/api"
)

// mark is what Lock appends to its creator.
var mark = regexp.MustCompile(` #[a-z0-9]{12,}$`)

// creatorOf returns the creator of a lock without a mark.
func creatorOf(lock api.Lock) string { return mark.ReplaceAllString(lock.Creator, "") }

// uuid is the form of an id.
var uuid = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
