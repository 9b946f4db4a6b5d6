package httpapi

import (
	"errors"
	"net/http"
	"time"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

// queueSlack is the time for a response to be written, after the wait in a queue.
const queueSlack = 10 * time.Second

// create makes a lock. It queues for a held name if the client prefers to wait.
func (a *api) create(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	a.offer(w)
	name, creator, err := readCreate(w, r)
	if err == nil {
		err = client.Check(access.Create, &store.Lock{Name: name})
	}
	if err != nil {
		a.fail(w, r, err, "")
		return
	}
	c := creation{client: client, ended: make(chan struct{})}
	in := store.NewLock{Creator: creator, IP: client.IP, Owner: client.Name()}
	var prefer wire.Preferences
	if a.original == nil {
		prefer = wire.ParsePrefer(r.Header[wire.HeaderPrefer])
		if creator != nil {
			_, in.Mark, _ = wire.CutMark(*creator)
		}
	}
	in.TTL, in.Leased = prefer.Lease, prefer.Lease > 0
	waiter := &engine.Waiter{
		Sink: &c, Names: []string{name}, New: in, Wait: prefer.Wait > 0,
		MaxHold: client.Limits().MaxHold, MaxOpen: client.Limits().MaxOpen,
	}
	a.acquire(w, r, prefer.Wait, &c, waiter)
	if !c.queued {
		prefer.Wait = 0
	}
	switch {
	case c.err == nil && in.Mark == "" && r.Context().Err() != nil:
		a.engine.Abandon(waiter)
		a.fail(w, r, errClientGone, "")
	case c.err == nil:
		setApplied(w, prefer)
		a.writeLock(w, http.StatusCreated, c.lock)
	case errors.Is(c.err, store.ErrHeld):
		prefer.Lease = 0
		setApplied(w, prefer)
		a.writeConflict(w, reply.Name(name), c.lock)
	default:
		a.fail(w, r, c.err, reply.Name(name))
	}
}

// acquire returns when the acquire has ended, the client is gone, or it may not lock the name any
// more.
func (a *api) acquire(
	w http.ResponseWriter, r *http.Request, wait time.Duration, c *creation, waiter *engine.Waiter,
) {
	a.engine.Acquire(waiter)
	select {
	case <-c.ended: // without waiting, as most
		return
	default:
	}
	var over <-chan time.Time // never, without wait
	if wait > 0 {
		// The time-outs of an http.Server are meant for slow clients, not for waiting ones.
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Time{})
		_ = control.SetWriteDeadline(time.Now().Add(wait + queueSlack))
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	for {
		_, replaced := c.client.Key()
		err := c.client.Check(access.Create, &store.Lock{Name: waiter.Names[0]})
		if err != nil {
			a.engine.Abandon(waiter)
			c.lock, c.err = nil, err
			return
		}
		select {
		case <-replaced:
		case <-c.ended:
			return
		case <-over:
			a.engine.Leave(waiter)
			over = nil
		case <-r.Context().Done():
			a.engine.Abandon(waiter)
			c.lock, c.err = nil, errClientGone
			return
		}
	}
}

// creation is the end of a create: an [engine.Sink].
type creation struct {
	client *guard.Client
	queued bool          // it has waited in a queue
	ended  chan struct{} // closed when the rest is set
	lock   *store.Lock   // the new one; the holder if err is store.ErrHeld
	err    error
}

// Granted implements engine.Sink.
func (c *creation) Granted(w *engine.Waiter, locks []store.Lock, _ uint64) {
	c.lock, c.queued = &locks[0], w.Queued()
	close(c.ended)
}

// Refused implements engine.Sink.
func (c *creation) Refused(w *engine.Waiter, err error, holder *store.Lock) {
	c.lock, c.err, c.queued = holder, err, w.Queued()
	close(c.ended)
}

// Waiting implements engine.Sink.
func (c *creation) Waiting(*engine.Waiter, int, *store.Lock) {}

// Deleted implements engine.Sink.
func (c *creation) Deleted(*store.Lock, string) {}

// Wanted implements engine.Sink.
func (c *creation) Wanted(string, int) {}

// Flush implements engine.Sink.
func (c *creation) Flush() {}

// setApplied says on a response which preferences were honoured, if any were.
func setApplied(w http.ResponseWriter, honoured wire.Preferences) {
	if applied := honoured.Applied(); applied != "" {
		w.Header()[wire.HeaderPreferenceApplied] = []string{applied}
	}
}
