package relukkotest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

// FailNext answers the next n requests with this status and the backend's own
// kind of body, without carrying them out. The header is in pairs:
//
//	s.FailNext(3, http.StatusServiceUnavailable, "Retry-After", "2")
//
// As with all faults, n below 0 means until [Server.Heal].
func (s *Server) FailNext(n, status int, header ...string) {
	s.t.Helper()
	a := Answer{Status: status, Header: make(http.Header)}
	if len(header)%2 != 0 {
		s.t.Fatalf("relukkotest: FailNext needs names and values of header fields in pairs, not %q", header)
	}
	for i := 0; i < len(header); i += 2 {
		a.Header.Add(header[i], header[i+1])
	}
	s.AnswerNext(n, nil, a)
}

// AnswerNext answers the next n matching requests with a, without carrying them out.
func (s *Server) AnswerNext(n int, match Match, a Answer) {
	s.add(&fault{match: match, left: n, answer: &a})
}

// CutNext carries out the next n matching requests, then cuts their
// connections without a byte of an answer.
func (s *Server) CutNext(n int, match Match) {
	s.add(&fault{match: match, left: n, cut: true})
}

// Hold parks all matching requests before they are carried out, until the Hold
// is released. The caller of a parked request can give up, but not take it
// back: released, it is carried out all the same, late. A [Server.Stop] drops it.
func (s *Server) Hold(match Match) *Hold {
	h := newHold()
	s.add(&fault{match: match, left: -1, hold: h})
	return h
}

// HoldReplies parks all matching requests after they were carried out, until
// the Hold is released and they are answered.
func (s *Server) HoldReplies(match Match) *Hold {
	h := newHold()
	s.add(&fault{match: match, left: -1, holdReply: h})
	return h
}

// Latency delays every request by what f says: before it is carried out, and
// its answer after it. A caller that gives up during the first does not take
// the request back. f may be called by many goroutines at a time; nil takes
// the latency away.
func (s *Server) Latency(f func(*http.Request) (before, after time.Duration)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = f
}

// RefuseWebSockets refuses new WebSockets with 404, as a backend without them, or a
// proxy that does not know them, does.
func (s *Server) RefuseWebSockets(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuseSockets = refuse
}

// DropWebSockets cuts all WebSockets.
func (s *Server) DropWebSockets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sockets {
		faultnet.Cut(c)
	}
}

// Heal takes back all faults: it brings the light back, releases what is held,
// and lets WebSockets in. It neither starts a stopped backend nor changes its extensions.
func (s *Server) Heal() {
	s.mu.Lock()
	faults, links := s.faults, s.links
	s.faults, s.latency, s.refuseSockets = nil, nil, false
	s.mu.Unlock()
	for _, f := range faults {
		for _, h := range []*Hold{f.hold, f.holdReply} {
			if h != nil {
				h.Release()
			}
		}
	}
	for _, l := range links {
		l.ComeBack()
	}
}

func (s *Server) add(f *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}

// fate is what will happen to one request.
type fate struct {
	before, after   time.Duration
	answer          *Answer
	cut             bool
	hold, holdReply *Hold
}

// decide uses up what will happen to r: of each kind of fault the oldest that
// matches. A request that is answered by a fault is neither held nor cut.
func (s *Server) decide(r *http.Request) fate {
	s.mu.Lock()
	var is fate
	s.faults = slices.DeleteFunc(s.faults, (*fault).spent)
	for _, f := range s.faults {
		if f.answer != nil && f.matches(r) {
			f.left--
			is.answer = f.answer
			break
		}
	}
	for _, f := range s.faults {
		if is.answer != nil || !f.matches(r) {
			continue
		}
		switch {
		case f.cut && !is.cut:
			f.left--
			is.cut = true
		case f.hold != nil && is.hold == nil:
			is.hold = f.hold
		case f.holdReply != nil && is.holdReply == nil:
			is.holdReply = f.holdReply
		}
	}
	latency := s.latency
	s.mu.Unlock()

	if latency != nil {
		is.before, is.after = latency(r)
	}
	return is
}

func (f *fault) spent() bool {
	return f.left == 0 || f.hold.isReleased() || f.holdReply.isReleased()
}

func (f *fault) matches(r *http.Request) bool {
	if f.match == nil {
		return !isWebSocket(r)
	}
	return f.match(r)
}

func (a *Answer) write(w http.ResponseWriter) {
	for name, values := range a.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	body := a.Body
	if body == "" {
		body = fmt.Sprintf(`{"status": %d, "message": "a fault of relukkotest"}`, a.Status)
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(a.Status)
	w.Write([]byte(body))
}
