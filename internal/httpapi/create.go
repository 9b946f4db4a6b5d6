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
	c := engine.NewSingle()
	in := store.NewLock{Creator: creator, IP: client.IP, Owner: client.Name()}
	var prefer wire.Preferences
	if a.original == nil {
		prefer = wire.ParsePrefer(r.Header[wire.HeaderPrefer])
		_, in.Mark, _ = wire.CutMarkOf(creator)
	}
	in.TTL, in.Leased = prefer.Lease, prefer.Lease > 0
	waiter := &engine.Waiter{
		Sink: c, Names: []string{name}, New: in, Wait: prefer.Wait > 0,
		MaxHold: client.Limits().MaxHold, MaxOpen: client.Limits().MaxOpen,
	}
	a.acquire(w, r, client, prefer.Wait, c, waiter)
	if !c.Queued {
		prefer.Wait = 0
	}
	switch {
	case c.Err == nil && in.Mark == "" && r.Context().Err() != nil:
		a.engine.Abandon(waiter)
		a.fail(w, r, errClientGone, "")
	case c.Err == nil:
		setApplied(w, prefer)
		a.writeLock(w, http.StatusCreated, c.Lock)
	case errors.Is(c.Err, store.ErrHeld):
		prefer.Lease = 0
		setApplied(w, prefer)
		a.writeConflict(w, reply.Name(name), c.Lock)
	default:
		a.fail(w, r, c.Err, reply.Name(name))
	}
}

// acquire returns when the acquire has ended, the client is gone, or it may not lock the name any
// more.
func (a *api) acquire(
	w http.ResponseWriter, r *http.Request, client *guard.Client, wait time.Duration,
	c *engine.Single, waiter *engine.Waiter,
) {
	a.engine.Acquire(waiter)
	select {
	case <-c.Ended: // without waiting, as most
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
		_, replaced := client.Key()
		err := client.Check(access.Create, &store.Lock{Name: waiter.Names[0]})
		if err != nil {
			a.engine.Abandon(waiter)
			c.Lock, c.Err = nil, err
			return
		}
		select {
		case <-replaced:
		case <-c.Ended:
			return
		case <-over:
			a.engine.Leave(waiter)
			over = nil
		case <-r.Context().Done():
			a.engine.Abandon(waiter)
			c.Lock, c.Err = nil, errClientGone
			return
		}
	}
}

// setApplied says on a response which preferences were honoured, if any were.
func setApplied(w http.ResponseWriter, honoured wire.Preferences) {
	if applied := honoured.Applied(); applied != "" {
		w.Header()[wire.HeaderPreferenceApplied] = []string{applied}
	}
}
