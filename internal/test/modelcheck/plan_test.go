package modelcheck_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/internal/test/originalapi"
)

// plan is all that the seed decides before a run begins.
type plan struct {
	seed    uint64
	horizon time.Duration // calls begin and faults end before it
	grid    time.Duration // all instants are multiples of it, so that some coincide
	latency time.Duration // of a request and its answer together, at most

	original bool // the backend is an original one, with the next two
	shape    string
	gone     int
	offset   time.Duration // of the backend's clock
	grace    time.Duration
	mute     bool // no WebSockets at all
	servers  int  // that share one store
	stream   bool // the clients use the stream where there is one

	replaced bool // the backend is, by one that may be of the other kind

	names   []string
	clients []clientPlan
	faults  []fault
	firsts  []fault         // when and where goroutines make their first calls
	moments []time.Duration // of calls and what follows from them, as far as it can be foretold
}

type clientPlan struct {
	deaf     bool          // it does not watch
	closeAt  time.Duration // 0: at the end
	patience time.Duration // of that Close
	mutexes  []mutexPlan
	raw      [][]rawCall // goroutines that use the API itself
}

type mutexPlan struct {
	choice  choice
	names   []string // one, unless it is a pool or a MultiMutex
	ttl     time.Duration
	handoff bool
	callers [][]mutexCall // one for each goroutine
}

// mutexCall is one Lock or TryLock and all that comes with it.
type mutexCall struct {
	pause    time.Duration // before it
	try      bool
	limit    time.Duration // until the caller's context ends, also inside the section; 0: never
	deadline bool          // by a deadline; else it is cancelled with a cause
	hold     time.Duration
	stay     bool // inside for all of hold, even when the lock is lost
	bare     bool // Unlock gets a context that knows nothing of the session
	twice    bool // Unlock is called twice
}

// rawCall is one create and all that comes with it.
type rawCall struct {
	pause, hold time.Duration
	name        string
	wait        time.Duration
	renew       time.Duration
	look        bool // also Get and List
}

// A fault is something that goes wrong from one instant on, for a while or at once.
type fault struct {
	kind      string
	link      int // of one client; -1: of all
	at, for_  time.Duration
	requests  string        // of which kind
	status    int           // answered
	after     string        // Retry-After
	delay     time.Duration // of requests
	keepLocks bool
	name      string
	original  bool // the backend that follows is; after a move: the old connections are cut
	server    int
}

func (f *fault) String() string {
	where := "everywhere"
	switch {
	case f.name != "":
		where = f.name
	case f.link >= 0:
		where = fmt.Sprintf("c%d", f.link)
	}
	s := fmt.Sprintf("%s (%s)", f.kind, where)
	if f.requests != "" {
		s += " of " + f.requests
	}
	if f.status != 0 {
		s += fmt.Sprintf(" status %d", f.status)
	}
	if f.after != "" {
		s += " Retry-After " + f.after
	}
	if f.kind == "replace" {
		s += " by " + kindOfBackend(f.original)
	}
	if f.delay != 0 {
		s += fmt.Sprintf(" by %v", f.delay)
	}
	if f.kind == "down" {
		s += fmt.Sprintf(" keeping the locks: %v", f.keepLocks)
	}
	return s
}

// dice draws what makes up a plan.
type dice struct {
	*rand.Rand
	grid time.Duration
}

func (d dice) one(in int) bool { return d.IntN(in) == 0 }

func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

// span draws a duration whose logarithm is evenly distributed.
func (d dice) span(from, to time.Duration) time.Duration {
	x := time.Duration(float64(from) * math.Pow(float64(to)/float64(from), d.Float64()))
	return max(x.Truncate(d.grid), d.grid)
}

// instant draws one before the end.
func (d dice) instant(end time.Duration) time.Duration {
	return max(time.Duration(d.Int64N(int64(end))).Truncate(d.grid), d.grid)
}

func newPlan(seed uint64) *plan {
	d := dice{Rand: rand.New(rand.NewPCG(seed, 0x6d6f64656c))}
	d.grid = pick(d, time.Microsecond, time.Millisecond, 100*time.Millisecond, 500*time.Millisecond)
	p := &plan{
		seed:    seed,
		grid:    d.grid,
		horizon: pick(d, 15*time.Second, 40*time.Second, 40*time.Second, 2*time.Minute),
		latency: pick(d, 0, 0, 2*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond,
			300*time.Millisecond),
		gone:   pick(d, 404, 404, 422),
		grace:  pick(d, 3*time.Minute, 3*time.Minute, 0, 2*time.Second),
		offset: pick(d, 0, 0, 7*time.Hour, -7*time.Hour),
		mute:   d.one(8),
		names:  []string{"arm", "camera", "gripper"}[:pick(d, 1, 1, 2, 3)],
	}
	ttls := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second,
		10 * time.Second}
	if d.one(6) {
		p.horizon = 20 * time.Minute
		ttls = []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute}
	}
	if p.latency > 100*time.Millisecond {
		ttls = ttls[2:]
	}
	p.original = d.one(3)
	p.stream = !p.original && d.one(2)
	p.servers = 1
	if p.stream && d.one(3) {
		p.servers = 2
	}
	p.shape = pick(d, slices.Sorted(maps.Keys(originalapi.DeletedShapes()))...)
	p.addClients(d, ttls)
	p.addSeveral()
	p.addFaults(d, slices.Max(ttls))
	return p
}

func kindOfBackend(original bool) string {
	if original {
		return "an original backend"
	}
	return "our backend"
}

func (p *plan) addClients(d dice, ttls []time.Duration) {
	left := 8 // goroutines
	longest := min(p.horizon/4, 2*slices.Max(ttls))
	for range 1 + d.IntN(4) {
		c := clientPlan{deaf: d.one(8)}
		if d.one(8) {
			c.closeAt = d.instant(p.horizon)
			c.patience = d.span(10*time.Millisecond, 30*time.Second)
		}
		for range 1 + d.IntN(2) {
			m := mutexPlan{names: []string{pick(d, p.names...)}, ttl: pick(d, ttls...),
				handoff: d.one(4)}
			goroutines := pick(d, 1, 1, 2, 3)
			if m.handoff {
				goroutines++
			}
			for range min(goroutines, left) {
				left--
				var calls []mutexCall
				for t := time.Duration(0); t < p.horizon && len(calls) < 8; {
					call := mutexCall{
						pause:    d.span(time.Millisecond, p.horizon/4),
						try:      d.one(4),
						hold:     d.span(time.Millisecond, longest),
						deadline: d.one(2),
						stay:     d.one(3),
						bare:     d.one(5),
						twice:    d.one(10),
					}
					if d.one(2) {
						call.limit = d.span(time.Millisecond, p.horizon/2)
					}
					if m.handoff && d.one(2) {
						call.pause, call.hold = d.span(time.Millisecond,
							100*time.Millisecond), d.span(time.Millisecond, 100*time.Millisecond)
					}
					t += call.pause
					p.moments = append(p.moments, t, t+p.latency, t+p.latency/2,
						t+min(time.Second, m.ttl/3)+p.latency, t+p.latency+call.hold)
					t += call.hold
					calls = append(calls, call)
				}
				if len(calls) > 0 {
					p.firsts = append(p.firsts, fault{link: len(p.clients), at: calls[0].pause})
				}
				m.callers = append(m.callers, calls)
			}
			if len(m.callers) > 0 {
				c.mutexes = append(c.mutexes, m)
			}
		}
		if d.one(3) {
			var calls []rawCall
			for range 1 + d.IntN(5) {
				calls = append(calls, rawCall{
					pause: d.span(time.Millisecond, p.horizon/4),
					hold:  min(d.span(time.Millisecond, longest), 20*time.Second),
					name:  pick(d, p.names...),
					wait:  pick(d, 0, 0, 2*time.Second, 30*time.Second),
					renew: pick(d, 0, 30*time.Second, 2*time.Minute),
					look:  d.one(2),
				})
			}
			c.raw = append(c.raw, calls)
		}
		p.clients = append(p.clients, c)
	}
}

// Requests by what they are for.
const (
	ofAny      = "any request"
	ofCreate   = "create"
	ofRenew    = "renew"
	ofRelease  = "release"
	ofList     = "list"
	ofGet      = "get"
	ofCancel   = "cancel"   // over the stream
	ofStream   = "a stream" // which is opened
	faultsMost = 10

	// Two faults in one.
	straggler = "straggler"
	unheard   = "unheard"
)

// addFaults draws the faults. Each plan has only some kinds of them, so that some
// faults run their course undisturbed.
func (p *plan) addFaults(d dice, ttl time.Duration) {
	kinds := []string{
		"delete", "expire", "sweep", "dark", "down", "answer", "cut", "slow", "reset",
		"drop sockets", "refuse sockets", "false page", "refusal", "replace", "store", straggler,
		unheard,
	}
	d.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	kinds = kinds[:d.IntN(5)]
	if p.stream && d.one(2) { // these are what the stream itself must stand
		kinds = append(kinds, pick(d, "cut", "cut", "store", "dark", "down"), "cut")
	}
	if p.servers > 1 {
		// Both keep the locks, and both are ours.
		kinds = append(kinds, "move", "move", "move")
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == "replace" })
	}
	if len(kinds) == 0 {
		return
	}
	for range d.IntN(faultsMost) {
		p.addFault(d, ttl, pick(d, kinds...))
	}
	for i := range p.faults {
		if f := &p.faults[i]; p.replaced && f.kind == "slow" {
			f.delay = min(f.delay, 4*time.Second)
		}
	}
	if p.original || p.replaced {
		// A server that knows no marks deletes what a create may have made whose outcome was
		// unknown, although its client may have found the lock by then.
		p.faults = slices.DeleteFunc(p.faults, func(f fault) bool { return f.kind == "store" })
	}
	slices.SortStableFunc(p.faults, func(a, b fault) int { return int(a.at - b.at) })
	p.separate()
}

// addFault draws a fault of a kind.
func (p *plan) addFault(d dice, ttl time.Duration, kind string) {
	f := fault{kind: kind, link: d.IntN(len(p.clients)+1) - 1, at: d.instant(p.horizon)}
	switch n := len(p.faults); {
	case n > 0 && d.one(2): // faults often come together
		last := p.faults[n-1]
		f.link, f.at = last.link, last.at+pick(d, 0, last.for_, last.for_/2, last.delay/2,
			d.span(time.Millisecond, last.for_+2*time.Millisecond))
	case len(p.moments) > 0 && d.one(2):
		f.at = pick(d, p.moments...) + pick(d, 0, 0,
			-d.span(time.Microsecond, time.Millisecond), d.span(time.Microsecond, time.Second))
	}
	f.at = min(max(f.at, d.grid), p.horizon-time.Second)
	f.for_ = d.span(10*time.Millisecond, 3*ttl)
	if d.one(3) {
		f.for_ = d.span(ttl/2, 3*ttl)
	}
	f.for_ = min(f.for_, p.horizon-f.at)
	switch f.kind {
	case straggler:
		p.addStraggler(d, f)
	case unheard: // a lock is deleted while no WebSocket is up
		f.kind, f.link, f.for_ = "drop sockets", -1, 0
		p.faults = append(p.faults, f, fault{kind: "delete", link: -1, name: pick(d, p.names...),
			at: f.at + d.span(time.Millisecond, 100*time.Millisecond)})
	case "move":
		f.for_, f.original, f.server = 0, d.one(2), d.IntN(p.servers)
		p.faults = append(p.faults, f)
	case "store":
		f.link, f.delay = -1, d.span(time.Millisecond, 4*time.Second)
		p.faults = append(p.faults, f)
	default:
		p.detail(d, &f)
		p.faults = append(p.faults, f)
	}
}

// detail draws what only faults of this kind have.
func (p *plan) detail(d dice, f *fault) {
	switch f.kind {
	case "delete", "expire", "sweep":
		f.name, f.link, f.for_ = pick(d, p.names...), -1, 0
	case "down":
		f.link, f.keepLocks = -1, !d.one(3) || p.servers > 1
		f.server = d.IntN(p.servers)
	case "answer":
		f.requests = pick(d, ofAny, ofAny, ofCreate, ofRenew, ofRelease, ofList)
		f.status = pick(d, 500, 502, 503, 503, 504, 429)
		f.after = pick(d, "", "", "0", "1", "3600")
	case "refusal":
		f.requests = pick(d, ofCreate, ofRenew, ofRelease)
		f.status = pick(d, 400, 401, 403)
	case "false page":
		f.requests = pick(d, ofAny, ofAny, ofCreate, ofRenew, ofRelease, ofList)
		f.status = pick(d, 404, 404, 422, 200)
	case "cut":
		f.requests = pick(d, ofAny, ofCreate, ofCreate, ofRenew, ofRelease, ofList)
		if p.stream {
			f.requests = pick(d, ofAny, ofCreate, ofRenew, ofRelease, ofCancel, ofStream)
		}
	case "slow":
		f.requests = pick(d, ofAny, ofCreate, ofCreate, ofRenew, ofRelease, ofList)
		// Nothing is promised for a create that arrives more than 75 s after its caller
		// has given up.
		f.delay = d.span(10*time.Millisecond, time.Minute)
		f.for_ = min(f.for_, 10*time.Second)
	case "reset":
		f.for_ = 0
	case "drop sockets":
		f.link, f.for_ = -1, 0
	case "refuse sockets":
		f.link = -1
	case "replace":
		f.link, f.for_, f.original = -1, 0, d.one(2)
		p.replaced = true
	}
}

// addStraggler adds a create that arrives after its caller has given it up and got
// the lock by another.
func (p *plan) addStraggler(d dice, f fault) {
	f.kind, f.requests, f.for_ = "slow", ofCreate, 20*time.Millisecond
	f.delay = d.span(100*time.Millisecond, 3*time.Second)
	if len(p.firsts) > 0 && !d.one(4) {
		first := pick(d, p.firsts...)
		f.link, f.at = first.link, max(first.at-time.Millisecond, 0)
	}
	p.faults = append(p.faults, f,
		fault{kind: "reset", link: f.link, at: f.at + f.delay/4})
}

// separate removes faults that would begin before one of their kind has ended.
func (p *plan) separate() {
	ends := make(map[string]time.Duration)
	p.faults = slices.DeleteFunc(p.faults, func(f fault) bool {
		if f.kind != "dark" && f.kind != "down" && f.kind != "refuse sockets" {
			return false
		}
		for link, end := range ends {
			if strings.HasPrefix(link, f.kind) && f.at <= end {
				return true
			}
		}
		ends[fmt.Sprint(f.kind, f.link)] = f.at + f.for_
		return false
	})
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v, latency up to %v, %s, deleted as %s, gone is %d", p.seed,
		p.horizon, p.latency, kindOfBackend(p.original), p.shape, p.gone)
	if p.stream {
		fmt.Fprintf(&b, ", %d servers with the stream", p.servers)
	}
	fmt.Fprintf(&b, ", clock off by %v, grace %v", p.offset, p.grace)
	if p.mute {
		b.WriteString(", no WebSockets")
	}
	for i, c := range p.clients {
		fmt.Fprintf(&b, "\n  c%d:", i)
		if c.deaf {
			b.WriteString(" does not watch;")
		}
		if c.closeAt > 0 {
			fmt.Fprintf(&b, " closes at %v for at most %v;", c.closeAt, c.patience)
		}
		for j, m := range c.mutexes {
			fmt.Fprintf(&b, " m%d of %v, TTL %v, %d goroutines", j, &m, m.ttl, len(m.callers))
			if m.handoff {
				b.WriteString(", handed on")
			}
			b.WriteString(";")
		}
		fmt.Fprintf(&b, " %d use the API itself", len(c.raw))
	}
	return b.String()
}
