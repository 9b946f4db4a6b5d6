package modelcheck_test

import (
	"context"
	"hash/fnv"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/internal/test/originalapi"
	"gitlab.com/relukko/relukko-go/relukkotest"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	patience  = 2 * time.Hour    // for all calls to return, faults being over
	closeTime = 30 * time.Minute // for a client to close, nobody holding anything
)

// world is one run of a plan.
type world struct {
	*record
	plan    *plan
	servers []*relukkotest.Server
	stores  []*recorded           // of each server
	late    sync.WaitGroup        // store calls that are slow, or take effect later
	net     [][]*relukkotest.Link // of each client, to each server
	moved   []int                 // the server that each client uses
	links   map[string]int        // its number by the link's address
	clients []*api.Client
	finish  func() // no call begins any more
	done    context.Context
	over    atomic.Bool // the plan's faults

	oneForce chan struct{}
}

// run runs the plan. It is called in a bubble.
func (w *world) run(t *testing.T) {
	p := w.plan
	w.record = newRecord()
	w.links = make(map[string]int)
	w.oneForce = make(chan struct{}, 1)
	w.done, w.finish = context.WithCancel(context.Background())
	defer w.finish()
	for i := range p.servers {
		w.servers = append(w.servers, w.newServer(t, i))
	}
	w.become(p.original)
	w.refuseSockets(p.mute)
	w.connect()
	w.install()

	var calls, faults sync.WaitGroup
	for i := range p.faults {
		faults.Go(func() { w.happen(&p.faults[i]) })
	}
	for i := range p.clients {
		w.begins(&calls, i)
	}
	returned := make(chan struct{})
	go func() {
		faults.Wait()
		w.over.Store(true)
		calls.Wait()
		close(returned)
	}()
	select {
	case <-returned:
	case <-time.After(p.horizon + patience):
		w.note("check", "not all calls have returned")
		w.wrong("a call hangs")
	}
	w.note("check", "all calls have returned")
	for _, server := range w.servers {
		server.Heal()
	}
	w.refuseSockets(p.mute)
	for i := range w.clients {
		w.close(i, closeTime)
	}
	w.late.Wait()
	w.left()
}

// newServer starts a server. All share one store.
func (w *world) newServer(t *testing.T, number int) *relukkotest.Server {
	p, made := w.plan, false
	return relukkotest.NewServer(t,
		relukkotest.InMemory(),
		relukkotest.ClockOffset(p.offset),
		relukkotest.Backend(server.WithGrace(p.grace)),
		relukkotest.Store(func() store.Store {
			s := &recorded{world: w, bell: make(chan struct{}, 1)}
			if number > 0 {
				s.Store = w.stores[0].Store
			} else {
				s.Store = memstore.New(memstore.WithClockOffset(p.offset))
			}
			if made {
				s.forget()
			}
			made = true
			w.mu.Lock()
			defer w.mu.Unlock()
			w.stores = append(w.stores[:number], s)
			return newUnsure(s)
		}))
}

func (w *world) refuseSockets(refuse bool) {
	for _, server := range w.servers {
		server.RefuseWebSockets(refuse)
	}
}

func (w *world) dropSockets() {
	for _, server := range w.servers {
		server.DropWebSockets()
	}
}

// become replaces the backend by one of a kind.
func (w *world) become(original bool) {
	o := httpapi.Original{Gone: w.plan.gone, Deleted: originalapi.DeletedShapes()[w.plan.shape]}
	option := httpapi.Ours()
	if original {
		option = httpapi.LikeOriginal(o)
	}
	for _, server := range w.servers {
		server.Reconfigure(option)
	}
}

// connect makes the clients, each with a link of its own.
func (w *world) connect() {
	for i := range w.plan.clients {
		var links []*relukkotest.Link
		var ways []*http.Transport
		for _, server := range w.servers {
			link := &server.Link
			if i > 0 {
				link = server.NewLink()
			}
			links = append(links, link)
			ways = append(ways, link.HTTPClient().Transport.(*http.Transport))
		}
		link := links[0]
		w.net = append(w.net, links)
		w.moved = append(w.moved, 0)
		w.links[strings.TrimPrefix(link.URL, "http://")] = i // the same on all servers
		way := link.HTTPClient()
		way.Transport = newTransport(w, i, ways)
		opts := []api.Option{api.WithHTTPClient(way)}
		if w.plan.clients[i].deaf {
			opts = append(opts, api.WithoutWatch())
		}
		w.clients = append(w.clients, link.Client(opts...))
	}
}

// install sets up the faults of requests; each begins at its instant.
func (w *world) install() {
	var slow []*fault
	for i := range w.plan.faults {
		f := &w.plan.faults[i]
		match := func(r *http.Request) bool { return w.concerns(f, r) }
		if f.kind == "slow" {
			slow = append(slow, f)
		}
		for _, server := range w.servers {
			w.prepare(server, f, match)
		}
	}
	if w.plan.latency == 0 && len(slow) == 0 {
		return
	}
	delay := func(r *http.Request) (before, after time.Duration) {
		before, after = w.latency(r)
		for _, f := range slow {
			if w.concerns(f, r) {
				before += f.delay
			}
		}
		return before, after
	}
	for _, server := range w.servers {
		server.Latency(delay)
	}
}

// prepare sets up a fault of requests on one server.
func (w *world) prepare(server *relukkotest.Server, f *fault, match relukkotest.Match) {
	switch f.kind {
	case "answer", "refusal":
		a := relukkotest.Answer{Status: f.status, Header: make(http.Header)}
		if f.after != "" {
			a.Header.Set("Retry-After", f.after)
		}
		server.AnswerNext(-1, match, a)
	case "false page":
		server.AnswerNext(-1, match,
			relukkotest.Answer{Status: f.status, Body: "<html>nobody at home"})
	case "cut":
		server.CutNext(-1, match)
	}
}

// concerns reports whether a request meets a fault.
func (w *world) concerns(f *fault, r *http.Request) bool {
	what := kindOf(r)
	at := time.Since(w.start)
	return what != "" && (f.requests == ofAny || f.requests == what) && at >= f.at &&
		at < f.at+f.for_ &&
		(f.link < 0 || f.link == w.from(r))
}

// from returns the client whose request this is.
func (w *world) from(r *http.Request) int {
	return w.links[r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()]
}

// latency is a function of the seed, the request and the instant: it is the same in
// each run that is the same so far.
func (w *world) latency(r *http.Request) (before, after time.Duration) {
	if w.plan.latency == 0 {
		return 0, 0
	}
	x := w.hash(w.from(r), r.Method+kindOf(r))
	half := uint64(w.plan.latency / 2)
	before, after = time.Duration(x%half), time.Duration(x>>32%half)
	if w.plan.grid > time.Millisecond {
		before, after = w.plan.latency/2, w.plan.latency/2
	}
	return before, after
}

// frameLatency is of what goes over the stream, in one direction. What is sent meanwhile waits for
// it too, so that a frame takes up to half of the plan's latency.
func (w *world) frameLatency(client int, direction string) time.Duration {
	if w.plan.latency == 0 {
		return 0
	}
	if w.plan.grid > time.Millisecond {
		return w.plan.latency / 4
	}
	return time.Duration(w.hash(client, direction) % uint64(w.plan.latency/4))
}

// breaks reports whether a stream breaks before or after a frame.
func (w *world) breaks(client int, what, direction string) (before, after bool) {
	at := time.Since(w.start)
	if what == "" {
		return false, false
	}
	for i := range w.plan.faults {
		f := &w.plan.faults[i]
		if f.kind == "cut" && (f.requests == ofAny || f.requests == what) && at >= f.at &&
			at < f.at+f.for_ && (f.link < 0 || f.link == client) {
			x := w.hash(client, direction+what) % 4
			return x == 0, x == 1
		}
	}
	return false, false
}

// hash is the same in each run that is the same so far.
func (w *world) hash(client int, what string) uint64 {
	h := fnv.New64a()
	h.Write([]byte{byte(w.plan.seed), byte(w.plan.seed >> 8), byte(w.plan.seed >> 16),
		byte(client)})
	h.Write([]byte(what + time.Since(w.start).String()))
	return h.Sum64()
}

// happen waits for a fault's instant and carries it out.
func (w *world) happen(f *fault) {
	time.Sleep(f.at)
	t := &trouble{fault: *f, to: never}
	t.from = w.note("fault", "%v begins", f)
	w.mu.Lock()
	w.troubles = append(w.troubles, t)
	w.mu.Unlock()
	links := slices.Concat(w.net...)
	if f.link >= 0 {
		links = w.net[f.link]
	}
	w.begin(f, links)
	time.Sleep(f.for_)
	w.end(f, links)
	to := w.note("fault", "%v is over", f)
	w.mu.Lock()
	t.to = to
	w.mu.Unlock()
}

func (w *world) begin(f *fault, links []*relukkotest.Link) {
	switch f.kind {
	case "delete":
		w.force(f.name)
		w.deletes("?")
		if !w.servers[f.server].Delete(f.name) {
			w.deletedByClient()
		}
		w.deletes("")
		w.force("")
	case "expire":
		w.force(f.name)
		w.servers[f.server].Expire(f.name)
		w.force("")
	case "sweep":
		w.force(f.name)
		w.servers[f.server].ExpireIn(f.name, -w.plan.grace-time.Second)
		w.force("")
	case "down":
		w.servers[f.server].Stop()
	case "dark":
		for _, l := range links {
			l.GoDark()
		}
	case "reset":
		for _, l := range links {
			l.Cut()
		}
	case "replace":
		w.become(f.original)
	case "drop sockets":
		w.dropSockets()
	case "move":
		w.move(f)
	case "refuse sockets":
		w.refuseSockets(true)
		w.dropSockets()
	}
}

func (w *world) end(f *fault, links []*relukkotest.Link) {
	switch f.kind {
	case "down":
		w.servers[f.server].Start(f.keepLocks)
	case "dark":
		for _, l := range links {
			l.ComeBack()
		}
	case "refuse sockets":
		w.refuseSockets(w.plan.mute)
	case "slow":
		time.Sleep(f.delay) // what was delayed arrives
	}
}

// move has a client use another server from now on. Half of them keep their connections.
func (w *world) move(f *fault) {
	for i := range w.net {
		if f.link >= 0 && f.link != i {
			continue
		}
		w.mu.Lock()
		old := w.moved[i]
		w.moved[i] = f.server
		w.mu.Unlock()
		if f.original {
			w.net[i][old].Cut()
		}
	}
}

// force records that the plan is about to delete the lock of that name, or none any more.
// Only one is under way at a time.
func (w *world) force(name string) {
	if name != "" {
		w.oneForce <- struct{}{} // no mutex, for which a bubble cannot wait
	} else {
		defer func() { <-w.oneForce }()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forcing = name
}

// deletes records that the lock that is deleted next, of the name that force has recorded, is
// deleted by the plan; with "", that none is.
func (w *world) deletes(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forced = id
}

// deletedByClient corrects a deletion that a client was faster with than the plan.
func (w *world) deletedByClient() {
	w.mu.Lock()
	defer w.mu.Unlock()
	rec := w.locks[w.forced]
	if rec == nil {
		return
	}
	rec.removed.cause = undone
	for _, x := range w.exchange {
		if x.what == ofRelease && x.id == rec.id {
			rec.removed.cause, rec.removed.by = released, x.client
		}
	}
}

// close closes a client.
func (w *world) close(client int, patience time.Duration) {
	c := &closing{client: client, patience: patience}
	c.call = w.note(whom(client), "Close, for at most %v", patience)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := w.clients[client].Shutdown(ctx)
	c.ret, c.err = w.note(whom(client), "Close: %v", err), err
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closes = append(w.closes, c)
}
