package guard

import (
	"crypto/rand"
	"crypto/sha256"

	"gitlab.com/relukko/relukko-go/server/access"
)

type hash = [sha256.Size]byte

// keySet is the keys of a server until they are replaced.
type keySet struct {
	salt     hash
	keys     map[hash]*standing // by the salted hash
	none     *standing
	replaced chan struct{} // closed when this is no longer the server's
}

// standing is a client's key in a set.
type standing struct {
	set *keySet
	key *access.Key // nil: the set does not have it
}

func newKeySet(keys []access.Key) *keySet {
	s := &keySet{keys: make(map[hash]*standing, len(keys)), replaced: make(chan struct{})}
	s.none = &standing{set: s}
	rand.Read(s.salt[:]) // never fails
	for _, key := range keys {
		if salted := s.salted(key.Hash); s.keys[salted] == nil {
			s.keys[salted] = &standing{s, &key}
		}
	}
	return s
}

// find returns the key with that hash. How long that takes says nothing about the hashes of keys:
// what is compared is salted with a secret.
func (s *keySet) find(h hash) *standing {
	if found := s.keys[s.salted(h)]; found != nil {
		return found
	}
	return s.none
}

func (s *keySet) salted(h hash) hash {
	var both [2 * sha256.Size]byte
	copy(both[:], s.salt[:])
	copy(both[sha256.Size:], h[:])
	return sha256.Sum256(both[:])
}
