package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

// minPrefix is how much of an id it takes to name a lock by it, so that a
// mistyped name does not.
const minPrefix = 4

const completeWithin = time.Second

// find returns the lock that arg names: by its id, its name, or the beginning
// of its id where no other begins with it. No name of another lock, and names are
// other people's, stands before a whole id.
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
	switch len(found) {
	case 0:
		if 0 < len(arg) && len(arg) < minPrefix {
			return api.Lock{}, failed("there is no lock %q. Of an id it takes at least %d characters", arg, minPrefix)
		}
		return api.Lock{}, failed("there is no lock %q, and none whose id begins with that", arg)
	case 1:
		return found[0], nil
	}
	text := fmt.Sprintf("%d locks have an id that begins with %q:", len(found), arg)
	for _, lock := range found {
		text += fmt.Sprintf("\n  %s  %s", lock.ID, printable(lock.Name))
	}
	return api.Lock{}, failed("%s\nGive more of it.", text)
}

// harmless reports whether a shell takes a name as it is. Names are other
// people's, and completion scripts have the shell evaluate what they have put on
// the command line: none of the others is offered.
func harmless(name string) bool {
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" -_.:/@+,%=", r) {
			return false
		}
	}
	return !strings.HasPrefix(name, "-") && !strings.HasPrefix(name, activeHelp)
}

// activeHelp is what marks a completion that is none, but a message.
const activeHelp = "_activeHelp_ "

// completeNames completes the names of the locks that there are. The shell does
// not wait for a backend that is slow.
func completeNames(t *target, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := t.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		a := asking{timeout: completeWithin}
		_ = a.with(c, func(ctx context.Context, c *api.Client) error {
			locks, err := c.List(ctx)
			for _, lock := range locks {
				if strings.HasPrefix(lock.Name, toComplete) && harmless(lock.Name) {
					names = append(names, cobra.CompletionWithDesc(lock.Name, "held by "+holderOf(lock)))
				}
			}
			return err
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
