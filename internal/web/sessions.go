package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/guard"
)

const (
	sessionTime = 12 * time.Hour
	maxSessions = 100 // of one name of a key; the one that ends first makes way
	linkTime    = 5 * time.Minute
	maxLinks    = 16 // that were not used yet
)

// token is the hash of a cookie, or of a link for one use. The server does not keep these.
type token [sha256.Size]byte

func hashOf(s string) token { return sha256.Sum256([]byte(s)) }

// newToken returns 256 random bits in letters, digits, - and _.
func newToken() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// sessions are the browsers that are signed in.
type sessions struct {
	mu  sync.Mutex
	all map[token]*session
}

// session is one browser that is signed in.
type session struct {
	client *guard.Client
	until  time.Time
	ended  chan struct{} // closed when it is signed out, or makes way
}

// add returns the cookie of a new session.
func (s *sessions) add(client *guard.Client) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[token]*session)
	}
	now := time.Now()
	n := 0
	var first token
	for at, other := range s.all {
		if key, _ := other.client.Key(); key == nil || !now.Before(other.until) {
			s.end(at)
		} else if other.client.Name() == client.Name() {
			if n++; n == 1 || other.until.Before(s.all[first].until) {
				first = at
			}
		}
	}
	if n >= maxSessions {
		s.end(first)
	}
	cookie := newToken()
	s.all[hashOf(cookie)] = &session{client, now.Add(sessionTime), make(chan struct{})}
	return cookie
}

// find returns the session of a cookie, or nil. It ends one whose time is over or whose key is
// gone.
func (s *sessions) find(cookie string) *session {
	at := hashOf(cookie)
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.all[at]
	if found == nil {
		return nil
	}
	if key, _ := found.client.Key(); key == nil || !time.Now().Before(found.until) {
		s.end(at)
		return nil
	}
	return found
}

// remove ends the session of a cookie.
func (s *sessions) remove(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(hashOf(cookie))
}

// end ends a session. The caller holds the mutex.
func (s *sessions) end(at token) {
	if found := s.all[at]; found != nil {
		close(found.ended)
		delete(s.all, at)
	}
}

// links are for signing in once.
type links struct {
	mu  sync.Mutex
	all map[token]time.Time // until when they can be used
}

// add returns the token of a new link.
func (l *links) add(now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil || len(l.all) >= maxLinks {
		l.all = make(map[token]time.Time)
	}
	secret := newToken()
	l.all[hashOf(secret)] = now.Add(linkTime)
	return secret
}

// valid reports whether a link can still be used.
func (l *links) valid(secret string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.all[hashOf(secret)])
}

// use reports whether a link was valid, which it is not any more.
func (l *links) use(secret string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until := l.all[hashOf(secret)]
	delete(l.all, hashOf(secret))
	return time.Now().Before(until)
}
