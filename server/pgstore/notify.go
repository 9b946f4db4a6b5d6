package pgstore

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	maxUntold     = 10_000                // events that wait to be told; beyond that they become one EventMissed
	notifyTimeout = 2 * time.Second       // for one batch
	farewell      = time.Second           // for the last batch, when the store closes
	firstBackoff  = 50 * time.Millisecond // before the second try, doubled for each one more
	lastBackoff   = 2 * time.Second
)

// notifier tells the other servers what was done through this store: after it was committed, on a connection of its
// own, and all that has come together meanwhile in one transaction. PostgreSQL lets transactions that notify commit only
// one after the other, across all databases; were it part of each create and delete, no two of these could share a
// write to disk any more. What is lost when the process dies in between, the others find out by themselves: see lookout.
type notifier struct {
	owner  *Store
	bell   chan struct{}
	heeded atomic.Bool // somebody may be listening: else there is nothing to be told
	unsaid atomic.Bool // something was not told, since nobody was known to listen

	mu     sync.Mutex
	untold []store.Event
}

func (n *notifier) init(s *Store) {
	n.owner = s
	n.bell = make(chan struct{}, 1)
	n.heeded.Store(true)
}

// add has events told to the other servers. It does not wait.
func (n *notifier) add(events ...store.Event) {
	if len(events) == 0 {
		return
	}
	if !n.heeded.Load() {
		n.unsaid.Store(true)
		return
	}
	n.mu.Lock()
	n.untold = append(n.untold, events...)
	if len(n.untold) > maxUntold {
		n.untold = []store.Event{{Kind: store.EventMissed}}
	}
	n.mu.Unlock()
	select {
	case n.bell <- struct{}{}:
	default:
	}
}

// heed notes that somebody listens, who may have begun before that was known here.
func (n *notifier) heed() {
	if !n.heeded.Swap(true) && n.unsaid.Swap(false) {
		n.add(store.Event{Kind: store.EventMissed})
	}
}

func (n *notifier) take() []store.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	events := n.untold
	n.untold = nil
	return events
}

// run tells until the store closes.
func (n *notifier) run() {
	var conn *pgx.Conn
	defer func() { closeConn(conn) }()
	for {
		select {
		case <-n.bell:
		case <-n.owner.closed.Done():
			ctx, cancel := context.WithTimeout(context.Background(), farewell)
			defer cancel()
			if events := n.take(); len(events) > 0 {
				_ = n.send(ctx, &conn, events) // the others find out by themselves
			}
			return
		}
		n.deliver(&conn)
	}
}

// deliver sends what there is, again and again until that has succeeded or the store closes.
func (n *notifier) deliver(conn **pgx.Conn) {
	events := n.take()
	if len(events) == 0 {
		return
	}
	for try := 0; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), notifyTimeout)
		err := n.send(ctx, conn, events)
		cancel()
		if err == nil {
			return
		}
		closeConn(*conn)
		*conn = nil
		if !unavailable(err) {
			n.owner.log.Error("other servers on the same database are not told what happens on this one", "error", err)
			return
		}
		// The connection may have broken long ago, unseen: so the second try follows at once.
		if try > 0 && !sleep(n.owner.closed, backoff(try)) {
			return
		}
	}
}

// backoff answers how long to wait after so many failures: twice as long each time, and not all servers equally long.
func backoff(failures int) time.Duration {
	d := min(firstBackoff<<min(failures, 10), lastBackoff)
	return d/2 + rand.N(d/2)
}

func (n *notifier) send(ctx context.Context, conn **pgx.Conn, events []store.Event) (err error) {
	if *conn == nil {
		if *conn, err = pgx.ConnectConfig(ctx, n.owner.dial()); err != nil {
			return err
		}
		// There is nothing to be written to disk, so nobody shall wait for the disk while he holds up all who notify.
		if _, err = (*conn).Exec(ctx, `SET synchronous_commit = off`); err != nil {
			return err
		}
	}
	_, err = (*conn).Exec(ctx, `SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload`, channel, pack(n.owner.id, events))
	return err
}

func closeConn(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
	select {
	case <-conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}
