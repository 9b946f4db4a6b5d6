package access

import (
	"crypto/sha256"
	"fmt"
)

// Role is what a key may do, see [Key.May]. The zero Role is Viewer.
type Role int

const (
	Viewer Role = iota // reads
	User               // also creates locks, and changes its own
	Admin              // also changes those of others
)

var roles = [...]string{Viewer: "viewer", User: "user", Admin: "admin"}

// String returns viewer, user or admin.
func (r Role) String() string {
	if r < 0 || int(r) >= len(roles) {
		return fmt.Sprintf("Role(%d)", int(r))
	}
	return roles[r]
}

// ParseRole returns the role that String calls so.
func ParseRole(s string) (Role, error) {
	for r, name := range roles {
		if name == s {
			return Role(r), nil
		}
	}
	return 0, fmt.Errorf("%s is no role: it must be viewer, user or admin", quoted(s))
}

// maxQuoted is the length, in bytes, of the longest word that an error repeats. A longer one may be
// a key that somebody has put in the wrong place, and errors go to logs.
const maxQuoted = 16

func quoted(word string) string {
	if len(word) > maxQuoted {
		return fmt.Sprintf("a word of %d bytes", len(word))
	}
	return fmt.Sprintf("%q", word)
}

// Key is an API key of a server. The server knows its hash only.
type Key struct {
	Name string // locks belong to it
	Role Role
	// Patterns limit the names of the locks that the key may create and change; none: any name.
	Patterns []string
	Hash     [sha256.Size]byte // of the key itself
}

// DefaultName is the name of keys that have none of their own.
const DefaultName = "default"

// Admins returns keys that may do everything, with the name [DefaultName]. Empty ones are left out.
func Admins(keys ...string) (admins []Key) {
	for _, key := range keys {
		if key != "" {
			hash := sha256.Sum256([]byte(key))
			admins = append(admins, Key{Name: DefaultName, Role: Admin, Hash: hash})
		}
	}
	return admins
}
