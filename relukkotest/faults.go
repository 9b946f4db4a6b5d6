package relukkotest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

// FailNext makes the next n requests fail with this status and the backend's own body. They are not
// carried out. The header is in pairs of a name and a value:
//
//	s.FailNext(3, http.StatusServiceUnavailable, "Retry-After", "2")
//
// Here and in the other faults, n below 0 means all requests until [Server.Heal].
func (s *Server) FailNext(n, status int, header ...string) {
	s.t.Helper()
	a := Answer{Status: status, Header: make(http.Header)}
	if len(header)%2 != 0 {
		s.t.Fatalf("relukkotest: FailNext: not pairs of names and values of header fields: %q",
			header)
	}
	for i := 0; i < len(header); i += 2 {
		a.Header.Add(header[i], header[i+1])
	}
	s.AnswerNext(n, nil, a)
}

// AnswerNext gives the next n matching requests the response a. They are not carried out.
func (s *Server) AnswerNext(n int, match Match, a Answer) {
	s.add(&fault{match: match, left: n, answer: &a})
}

// CutNext carries out the next n matching requests, and cuts their connections instead of a
// response.
func (s *Server) CutNext(n int, match Match) {
	s.add(&fault{match: match, left: n, cut: true})
}

// Hold parks all matching requests before they are carried out, until [Hold.Release]. They are then
// carried out even if their clients have given up. [Server.Stop] drops parked requests.
func (s *Server) Hold(match Match) *Hold {
	h := newHold()
	s.add(&fault{match: match, left: -1, hold: h})
	return h
}

// HoldReplies carries out all matching requests, and parks their responses until [Hold.Release].
func (s *Server) HoldReplies(match Match) *Hold {
	h := newHold()
	s.add(&fault{match: match, left: -1, holdReply: h})
	return h
}

// Latency delays every request by the two durations that f returns: before it is carried out, and
// before its response. It does not delay what is said over a stream. A request is carried out even
// if its client gives up during the first. f must be safe for concurrent use; nil ends the latency.
func (s *Server) Latency(f func(*http.Request) (before, after time.Duration)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = f
}

// RefuseWebSockets sets whether new WebSockets get 404, as from a backend or a proxy without them.
func (s *Server) RefuseWebSockets(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuseSockets = refuse
}

// DropWebSockets cuts all open WebSockets.
func (s *Server) DropWebSockets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sockets {
		faultnet.Cut(c)
	}
}

// Heal ends all faults: links come back, parked requests go on, new WebSockets are admitted. It
// neither starts a stopped backend nor undoes [Server.Reconfigure].
func (s *Server) Heal() {
	s.mu.Lock()
	faults, links := s.faults, s.links
	s.faults, s.latency, s.refuseSockets, s.faulty = nil, nil, false, false
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
	opening, _ := http.NewRequest(http.MethodGet, streamPath, nil)
	if f.match == nil || !f.match(opening) {
		s.endStreams()
	}
}

// endStreams makes clients use plain requests until [Server.Heal], so that faults of these apply to
// them. The caller holds s.mu.
func (s *Server) endStreams() {
	s.faulty = true
	for c, stream := range s.sockets {
		if stream {
			faultnet.Cut(c)
		}
	}
}

// fate is what happens to one request.
type fate struct {
	before, after   time.Duration
	answer          *Answer
	cut             bool
	hold, holdReply *Hold
}

// decide returns what happens to r, and counts it: of each kind of fault the
// oldest that matches. A request that a fault answers is neither held nor cut.
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
