package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/relukko/relukko-go/api"
)

// minPrefix is how much of an id it takes to name a lock by it, so that a
// mistyped name does not.
const minPrefix = 4

// byNameOrID is for help texts.
const byNameOrID = `NAME|ID is the name of the lock, its id, or the beginning of its id (at least
four characters).`

// find returns the lock that arg names: by its id, its name, or the beginning of
// its id where no other lock's begins with it. A whole id goes before a name, so
// that no other lock can be named like it.
func find(ctx context.Context, c *api.Client, arg string) (api.Lock, error) {
	locks, err := c.List(ctx)
	if err != nil {
		return api.Lock{}, err
	}
	return match(locks, arg)
}

func match(locks []api.Lock, arg string) (api.Lock, error) {
	prefix := strings.ToLower(arg)
	for _, is := range []func(api.Lock) bool{
		func(lock api.Lock) bool { return lock.ID == prefix },
		func(lock api.Lock) bool { return lock.Name == arg },
	} {
		if i := slices.IndexFunc(locks, is); i >= 0 {
			return locks[i], nil
		}
	}
	var found []api.Lock
	for _, lock := range locks {
		if len(arg) >= minPrefix && strings.HasPrefix(lock.ID, prefix) {
			found = append(found, lock)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		f := failed("%d locks have an id that begins with %q:", len(found), arg)
		for _, lock := range found {
			f.text += fmt.Sprintf("\n  %s  %s", lock.ID, printable(lock.Name))
		}
		f.text += "\nGive more of it."
		return api.Lock{}, f
	case 0 < len(arg) && len(arg) < minPrefix:
		return api.Lock{}, failed("there is no lock %q. Of an id, give at least %d characters",
			arg, minPrefix)
	}
	return api.Lock{}, failed("there is no lock %q, and none whose id begins with that", arg)
}
