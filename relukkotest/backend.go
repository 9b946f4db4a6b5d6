package relukkotest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Reconfigure replaces the backend by one with these options in addition to its present ones, as if
// it was replaced by another version: WebSockets are closed, waiting creates get 503 with
// Retry-After: 0, and the locks are kept.
func (s *Server) Reconfigure(opts ...server.Option) {
	defer s.change()()
	s.mu.Lock()
	s.options = append(s.options, opts...)
	run := s.run
	s.mu.Unlock()
	if run == nil {
		return
	}
	shutDown(run.backend) // first: the store is for one backend at a time
	backend := s.newBackend()
	s.mu.Lock()
	run.backend = backend
	s.mu.Unlock()
}

// Locks returns all locks, also while the backend is stopped.
func (s *Server) Locks() []store.Lock {
	s.t.Helper()
	s.mu.Lock()
	st := s.st
	s.mu.Unlock()
	locks, err := st.List(context.Background())
	if err != nil {
		s.t.Errorf("relukkotest: listing the locks: %v", err)
	}
	return locks
}

// Delete deletes the lock of this name, as another client would, but without network and faults. It
// reports false if there is no such lock or the backend is stopped.
func (s *Server) Delete(name string) bool {
	s.t.Helper()
	return s.onLock(http.MethodDelete, name, "")
}

// Expire makes the lock of this name expire now, as another client would. Unless it is renewed, the
// backend deletes it after the grace; see [Server.ExpireIn]. Expire reports false if there is no
// such lock or the backend is stopped.
func (s *Server) Expire(name string) bool {
	s.t.Helper()
	return s.ExpireIn(name, 0)
}

// ExpireIn makes the lock of this name expire in d, as another client would. A negative d means
// that it has expired already. If that is longer ago than the grace, the backend deletes the lock
// within a second. The grace is 1 s for the lock of a Mutex, and 3 min for others unless [Backend]
// sets another. ExpireIn reports false if there is no such lock or the backend is stopped.
func (s *Server) ExpireIn(name string, d time.Duration) bool {
	s.t.Helper()
	at := time.Now().Add(s.clockOffset + d).UTC()
	body := `{"creator": null, "expires_at": "` + at.Format(time.RFC3339Nano) + `"}`
	return s.onLock(http.MethodPut, name, body)
}

// onLock sends a request about the lock of this name without the network and its
// faults.
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
