package modelcheck_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// exchange is one request of a client and its answer.
type exchange struct {
	client    int
	what      string   // one of the kinds of request
	made      []string // the ids of the locks that a create was answered with
	method    string
	id        string   // of the lock in the path
	names     []string // of a create
	all       bool     // it asks for all of them
	creator   string
	wait      bool // it may queue
	call, ret moment
	conns     int // that net/http took for it

	answered bool // a whole answer came
	status   int
	body     []byte
	decoded  *answerJSON
	listed   []answerJSON // what a list says, or a grant of several locks
}

// answerJSON is what may be in an answer's body.
type answerJSON struct {
	ID        string    `json:"id"`
	Name      string    `json:"lock_name"`
	Creator   *string   `json:"creator"`
	ExpiresAt time.Time `json:"expires_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Status    int       `json:"status"`
	Message   *string   `json:"message"`
	Lock      *answerJSON
}

// transport is that of one client; it records all exchanges.
type transport struct {
	kept, fresh []*http.Transport // to each server; fresh makes a connection for each request
	world       *world
	client      int
}

func newTransport(world *world, client int, kept []*http.Transport) *transport {
	w := &transport{kept: kept, world: world, client: client}
	for _, t := range kept {
		fresh := t.Clone()
		fresh.DisableKeepAlives = true
		w.fresh = append(w.fresh, fresh)
	}
	return w
}

func (w *transport) CloseIdleConnections() {
	for _, t := range w.kept {
		t.CloseIdleConnections()
	}
}

// next carries a request out, on a new connection if it asks for one as api's own transport does.
func (w *transport) next(req *http.Request) (*http.Response, error) {
	w.world.mu.Lock()
	to := w.world.moved[w.client]
	w.world.mu.Unlock()
	if to > 0 {
		req = req.Clone(req.Context())
		req.Header.Set("X-API-KEY", w.world.servers[to].APIKey)
	}
	if req.Close {
		return w.fresh[to].RoundTrip(req)
	}
	return w.kept[to].RoundTrip(req)
}

func (w *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path == wire.StreamPath {
		return w.openStream(req)
	}
	what := kindOf(req)
	if what == "" {
		return w.next(req)
	}
	x := &exchange{client: w.client, what: what, method: req.Method, ret: never,
		wait: strings.Contains(req.Header.Get("Prefer"), "wait=")}
	rest := strings.TrimPrefix(req.URL.Path, "/v1/locks/")
	switch what {
	case ofCreate:
		var body struct {
			Name    string  `json:"lock_name"`
			Creator *string `json:"creator"`
		}
		r, err := req.GetBody()
		if err == nil {
			err = json.NewDecoder(r).Decode(&body)
		}
		if err != nil {
			return nil, err
		}
		x.names = []string{body.Name}
		if body.Creator != nil {
			x.creator = *body.Creator
		}
	case ofRelease, ofRenew, ofGet:
		x.id, _, _ = strings.Cut(rest, "/")
	}
	r := w.world.record
	x.call = r.note(w.who(), "%s", x)
	r.mu.Lock()
	r.exchange = append(r.exchange, x)
	r.mu.Unlock()

	resp, err := w.next(req.WithContext(httptrace.WithClientTrace(req.Context(),
		&httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
			r.mu.Lock()
			defer r.mu.Unlock()
			x.conns++
		}})))
	if err != nil {
		r.note(w.who(), "%s: %v", x, err)
		return resp, err
	}
	at := r.note(w.who(), "%s: %d", x, resp.StatusCode)
	end := func(body []byte) { x.end(r, at, resp.StatusCode, body) }
	if resp.Body == http.NoBody {
		end(nil)
	}
	resp.Body = &seen{ReadCloser: resp.Body, end: end}
	return resp, nil
}

// openStream opens a stream, if the plan's clients use it.
func (w *transport) openStream(req *http.Request) (*http.Response, error) {
	if !w.world.plan.stream {
		return &http.Response{StatusCode: http.StatusNotFound, Header: make(http.Header),
			Body: http.NoBody, Request: req}, nil
	}
	resp, err := w.next(req)
	if err != nil {
		w.world.note(w.who(), "open the stream: %v", err)
		return resp, err
	}
	w.world.note(w.who(), "open the stream: %d", resp.StatusCode)
	if below, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = newFrames(w, below)
	}
	return resp, nil
}

// end records the answer. A create that was answered with a lock from before it was sent, or with
// one that another create was answered with, has found the lock of an earlier one.
func (x *exchange) end(r *record, at moment, status int, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x.answered {
		return
	}
	x.answered, x.status, x.body, x.ret = true, status, body, at
	if x.what != ofCreate || status/100 != 2 {
		return
	}
	older := false
	for _, lock := range x.locks() {
		x.made = append(x.made, lock.ID)
		rec := r.locks[lock.ID]
		older = older || rec != nil && rec.created.before(x.call)
		for _, other := range r.exchange {
			older = older || other != x && other.what == ofCreate &&
				slices.Contains(other.made, lock.ID)
		}
	}
	if older {
		x.what, x.made = ofGet, nil
	}
}

func (w *transport) who() string { return whom(w.client) }

func (x *exchange) String() string {
	switch x.what {
	case ofCreate:
		s := "create " + strings.Join(x.names, ",") + " #" + markOf(x.creator)
		if x.all {
			s += " (all)"
		}
		if x.wait {
			s += " (may queue)"
		}
		return s
	case ofList:
		return x.what
	}
	return x.what + " " + brief(x.id)
}

// seen is a body that is recorded once it was read to its end.
type seen struct {
	io.ReadCloser
	read bytes.Buffer
	end  func([]byte)
}

func (s *seen) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	s.read.Write(b[:n])
	if err == io.EOF {
		s.end(s.read.Bytes())
	}
	return n, err
}

// kindOf returns the kind of a request.
func kindOf(r *http.Request) string {
	path := strings.TrimSuffix(r.URL.Path, "/")
	switch {
	case path == wire.StreamPath:
		return ofStream
	case path == "/v1/locks" && r.Method == http.MethodPost:
		return ofCreate
	case path == "/v1/locks":
		return ofList
	case !strings.HasPrefix(path, "/v1/locks/"):
		return ""
	case r.Method == http.MethodDelete:
		return ofRelease
	case r.Method == http.MethodPut:
		return ofRenew
	}
	return ofGet
}
