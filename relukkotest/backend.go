package relukkotest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/server"
)

// Without switches these extensions off, and all others on: Without() is the
// whole backend, Without(server.AllExtensions()...) the original one. As when
// a backend is replaced by another version, WebSockets are closed and waiting
// requests are answered with 503 and Retry-After: 0; the locks stay.
func (s *Server) Without(ext ...server.Extension) {
	s.replace(func() { s.without = ext })
}

// GoneStatus sets the status that says that a lock is gone: 404, or 422 as
// older backends have it. The backend is replaced as by [Server.Without].
func (s *Server) GoneStatus(status int) {
	s.replace(func() { s.goneStatus = status })
}

// DeletedShape sets what the member deleted of a broadcast holds. The backend
// is replaced as by [Server.Without].
func (s *Server) DeletedShape(shape func(server.Lock) any) {
	s.replace(func() { s.deletedShape = shape })
}

// replace applies change, and ends the backend for one that is set up so.
func (s *Server) replace(change func()) {
	defer s.change()()
	s.mu.Lock()
	change()
	run := s.run
	s.mu.Unlock()
	if run == nil {
		return
	}
	shutDown(run.backend) // first: the store is for one backend at a time
	backend := server.New(s.store, s.backendOptions()...)
	s.mu.Lock()
	run.backend = backend
	s.mu.Unlock()
}

func (s *Server) backendOptions() []server.Option {
	opts := append([]server.Option{server.WithAPIKeys(s.APIKey)}, s.options...)
	opts = append(opts, server.WithoutExtensions(s.without...))
	if s.goneStatus != 0 {
		opts = append(opts, server.WithGoneStatus(s.goneStatus))
	}
	if s.deletedShape != nil {
		opts = append(opts, server.WithDeletedShape(s.deletedShape))
	}
	return opts
}

// DeletedShapes are the shapes of a broadcast's member deleted that a client
// has to understand, by what they are.
func DeletedShapes() map[string]func(server.Lock) any {
	return map[string]func(server.Lock) any{
		"true":           func(server.Lock) any { return true },
		"a number":       func(server.Lock) any { return 1 },
		"id":             func(l server.Lock) any { return l.ID },
		"name":           func(l server.Lock) any { return l.Name },
		"lock":           func(l server.Lock) any { return l },
		"part of a lock": func(l server.Lock) any { return map[string]any{"id": l.ID} },
		"ids":            func(l server.Lock) any { return []any{l.ID} },
		"locks":          func(l server.Lock) any { return []any{l} },
	}
}

// Locks returns the locks that there are, also while the backend is stopped.
func (s *Server) Locks() []server.Lock {
	s.t.Helper()
	s.mu.Lock()
	store := s.store
	s.mu.Unlock()
	locks, err := store.List(context.Background())
	if err != nil {
		s.t.Errorf("relukkotest: listing the locks: %v", err)
	}
	return locks
}

// Delete deletes the lock of this name as another client would, one that no
// fault concerns. It reports whether it did: false where there is no such
// lock, or the backend is stopped.
func (s *Server) Delete(name string) bool {
	s.t.Helper()
	return s.onLock(http.MethodDelete, name, "")
}

// Expire makes the lock of this name expire now, as another client would. Its
// lease is over, but unless it is renewed the backend deletes it only after
// the grace; see [Server.ExpireIn]. It reports whether it did: false where
// there is no such lock, or the backend is stopped.
func (s *Server) Expire(name string) bool {
	s.t.Helper()
	return s.ExpireIn(name, 0)
}

// ExpireIn makes the lock of this name expire in d, as another client would.
// Below 0 it has expired already; when that is longer ago than the grace (3
// min, unless [Backend] sets another), the backend deletes it within a second.
// It reports whether it did: false where there is no such lock, or the backend
// is stopped.
func (s *Server) ExpireIn(name string, d time.Duration) bool {
	s.t.Helper()
	at := time.Now().Add(s.clockOffset + d).UTC()
	return s.onLock(http.MethodPut, name, `{"creator": null, "expires_at": "`+at.Format(time.RFC3339Nano)+`"}`)
}

// onLock sends a request about the lock of this name past the network and its faults.
func (s *Server) onLock(method, name, body string) bool {
	s.t.Helper()
	s.mu.Lock()
	run := s.run
	s.mu.Unlock()
	if run == nil {
		return false
	}
	for _, l := range s.Locks() {
		if l.Name != name {
			continue
		}
		r := httptest.NewRequest(method, "/v1/locks/"+l.ID, strings.NewReader(body))
		r.Header.Set("X-API-KEY", s.APIKey)
		answer := httptest.NewRecorder()
		run.carryOut(answer, r)
		return answer.Code == http.StatusOK
	}
	return false
}
