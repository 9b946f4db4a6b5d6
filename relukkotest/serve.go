package relukkotest

import (
	"bytes"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/server"
)

// maxBody is more than the backend reads.
const maxBody = 8 << 20

func newRun(s *Server, backend *server.Server) *run {
	r := &run{server: s, backend: backend, stopped: make(chan struct{})}
	r.http.Handler = r
	r.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	r.http.ErrorLog = log.New(io.Discard, "", 0)
	return r
}

// listen serves what l accepts.
func (run *run) listen(l net.Listener) {
	run.serving.Go(func() { run.http.Serve(l) })
}

// stop ends the run.
func (run *run) stop() {
	run.server.mu.Lock()
	run.stopping = true
	backend := run.backend
	run.server.mu.Unlock()

	close(run.stopped)
	for _, l := range run.server.allLinks() {
		l.faults.Cut()
	}
	run.http.Close()
	shutDown(backend)
	run.serving.Wait()
}

func (s *Server) newBackend() *server.Server {
	opts := append([]server.Option{server.WithAPIKeys(s.APIKey)}, s.options...)
	return server.New(s.st, opts...)
}

// shutDown ends a backend.
func shutDown(backend *server.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	backend.Shutdown(ctx)
}

// ServeHTTP applies the faults to the request, and passes it to the backend. It
// panics with [http.ErrAbortHandler] to cut the connection.
func (run *run) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !run.enter(r) {
		panic(http.ErrAbortHandler)
	}
	defer run.serving.Done()

	is := run.server.decide(r)
	if is.before > 0 || is.hold != nil {
		r = run.delay(r, is)
	}
	switch {
	case is.answer != nil:
		is.answer.write(w)
	case isWebSocket(r):
		run.serveWebSocket(w, r)
	case is.cut:
		run.carryOut(newReply(), r)
		panic(http.ErrAbortHandler)
	case is.after > 0 || is.holdReply != nil:
		late := newReply()
		run.carryOut(late, r)
		if !run.sleep(is.after) || is.holdReply != nil && !is.holdReply.park(run.stopped) {
			panic(http.ErrAbortHandler)
		}
		late.send(w)
	default:
		run.carryOut(w, r)
	}
}

// enter counts the request. It reports false once the backend is being stopped.
func (run *run) enter(r *http.Request) bool {
	s := run.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if run.stopping {
		return false
	}
	run.serving.Add(1)
	s.requests[endpoint{r.Method, route(r.URL.Path)}]++
	return true
}

func (run *run) carryOut(w http.ResponseWriter, r *http.Request) {
	run.server.mu.Lock()
	backend := run.backend
	run.server.mu.Unlock()
	backend.ServeHTTP(w, r)
}

// delay delays the request, and returns it as it is to be carried out: if its
// client has left meanwhile, as if a proxy had not noticed. A client that is
// still there and waits for a lock can leave later, as without a delay.
func (run *run) delay(r *http.Request, is fate) *http.Request {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil { // the client has not sent all of it
		panic(http.ErrAbortHandler)
	}
	if !run.sleep(is.before) || is.hold != nil && !is.hold.park(run.stopped) {
		panic(http.ErrAbortHandler)
	}
	ctx := r.Context()
	if ctx.Err() != nil || !strings.Contains(r.Header.Get("Prefer"), "wait=") {
		ctx = context.WithoutCancel(ctx)
	}
	r = r.WithContext(ctx)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

// sleep waits for d. It reports false if the backend is stopped before.
func (run *run) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-run.stopped:
		return false
	}
}

// serveWebSocket records the WebSocket, so that it can be dropped.
func (run *run) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	s := run.server
	s.mu.Lock()
	refused := s.refuseSockets || (s.noStream || s.faulty) && r.URL.Path == streamPath
	s.mu.Unlock()
	if refused {
		http.NotFound(w, r)
		return
	}
	conn := r.Context().Value(connKey{}).(net.Conn)
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.sockets, conn)
	}()
	run.carryOut(&upgrade{w, s, conn, r.URL.Path == streamPath}, r)
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

// upgrade notices that a WebSocket opens, before the client does.
type upgrade struct {
	http.ResponseWriter
	server *Server
	conn   net.Conn
	stream bool
}

func (u *upgrade) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		u.server.mu.Lock()
		u.server.opened++
		u.server.sockets[u.conn] = u.stream
		u.server.mu.Unlock()
	}
	u.ResponseWriter.WriteHeader(status)
}

// Unwrap lets the WebSocket take over the connection.
func (u *upgrade) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// reply is a response that is not sent yet.
type reply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newReply() *reply { return &reply{header: make(http.Header)} }

func (r *reply) Header() http.Header { return r.header }

func (r *reply) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *reply) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(b)
}

func (r *reply) send(w http.ResponseWriter) {
	for name, values := range r.header {
		w.Header()[name] = values
	}
	if r.status != 0 { // otherwise the client has left
		w.WriteHeader(r.status)
	}
	w.Write(r.body.Bytes())
}
