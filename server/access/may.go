package access

import (
	"fmt"
	"slices"
	"strings"
)

// Action is what a request does to a lock. Every key may read.
type Action string

const (
	Create Action = "create" // acquire, over HTTP or the stream
	Renew  Action = "renew"  // set the lease
	Update Action = "update" // set the creator or the expiry, or add to it
	Delete Action = "delete" // release
	Cancel Action = "cancel" // withdraw the acquire of a mark, which belongs to the key's name
	Backup Action = "backup" // read everything at once; it is about no lock
)

// DeniedError is the error of [Key.May].
type DeniedError struct {
	Reason string // what is missing, and whose lock it is
}

func (e *DeniedError) Error() string { return "relukko: " + e.Reason }

// May returns nil if the key may do that to the lock with that name and owner, and else a
// *DeniedError. The owner does not matter for [Create], neither does for [Cancel]. All requests are
// decided here, over HTTP and on the stream.
//
// A viewer may only read. A user may create locks, and change those that a key of its own name
// created; an admin may change those of others too. Patterns limit both to the names that match. A
// backup, which has everything, needs an admin, whatever its patterns are.
func (k *Key) May(do Action, lock, owner string) error {
	if do == Create || do == Cancel {
		owner = k.Name
	}
	needs := Admin.String()
	if owner == k.Name {
		needs = "user or admin"
	}
	switch {
	case do == Backup && k.Role != Admin:
		return denied(do, lock, owner, "the key %q has the role %v: this needs the role %v",
			k.Name, k.Role, Admin)
	case do == Backup:
		return nil
	case k.Role != User && k.Role != Admin:
		return denied(do, lock, owner, "the key %q has the role %v, which may only read: "+
			"this needs the role %s", k.Name, k.Role, needs)
	case do != Cancel && !k.matches(lock):
		return denied(do, lock, owner, "the key %q may create and change only locks whose names "+
			"match %s", k.Name, k.patterns())
	case k.Role == User && owner != k.Name:
		return denied(do, lock, owner, "the key %q has the role user, which may change only its "+
			"own locks: this needs the role %s", k.Name, needs)
	}
	return nil
}

// denied returns the error for a request. The format says what is missing.
func denied(do Action, lock, owner, format string, args ...any) error {
	about := fmt.Sprintf("lock %q of the key %q: ", lock, owner)
	switch do {
	case Create:
		about = fmt.Sprintf("lock %q: ", lock)
	case Cancel, Backup:
		about = string(do) + ": "
	}
	return &DeniedError{about + fmt.Sprintf(format, args...)}
}

// Unlimited reports whether the key may do everything, whatever the lock is.
func (k *Key) Unlimited() bool { return k.Role == Admin && len(k.Patterns) == 0 }

// patterns returns the patterns for a message: the first ones, where they are many.
func (k *Key) patterns() string {
	const shown = 5
	if more := len(k.Patterns) - shown; more > 0 {
		return fmt.Sprintf("%s or %d others", strings.Join(k.Patterns[:shown], ", "), more)
	}
	return strings.Join(k.Patterns, " or ")
}

// matches reports whether a name matches one of the key's patterns, or there are none.
func (k *Key) matches(name string) bool {
	return len(k.Patterns) == 0 ||
		slices.ContainsFunc(k.Patterns, func(pattern string) bool { return Match(pattern, name) })
}

// Match reports whether the whole name matches the pattern. A * stands for any bytes, also for
// none; everything else for itself.
func Match(pattern, name string) bool {
	part, rest, more := strings.Cut(pattern, "*")
	if !more {
		return name == pattern
	}
	name, ok := strings.CutPrefix(name, part)
	for ok {
		if part, rest, more = strings.Cut(rest, "*"); !more {
			return strings.HasSuffix(name, part)
		}
		_, name, ok = strings.Cut(name, part) // a later place would leave less to match
	}
	return false
}
