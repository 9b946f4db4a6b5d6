package pgstore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	maxUnsent     = 10_000          // events; more become one EventMissed
	notifyTimeout = 2 * time.Second // for one batch
	lastTimeout   = time.Second     // for the last batch, when the store closes
)

// notifier tells the other servers what was done through this store: after the commit, on a
// connection of its own, and all that is unsent in one transaction. PostgreSQL lets transactions
// that notify commit only one after the other, across all databases; so creates and deletes that
// notify could not share a write to disk. What is lost if the process dies in between, the others
// find out themselves, see tracker.
type notifier struct {
	db     *database
	bell   chan struct{}
	heeded atomic.Bool // another server may be listening
	unsaid atomic.Bool // something was not sent because none was known to listen

	mu     sync.Mutex
	unsent []store.Event
}

func (n *notifier) init(db *database) {
	n.db = db
	n.bell = make(chan struct{}, 1)
	n.heeded.Store(true)
}

// add sends events to the other servers. It does not wait.
func (n *notifier) add(events ...store.Event) {
	if len(events) == 0 {
		return
	}
	if !n.heeded.Load() {
		n.unsaid.Store(true)
		return
	}
	n.mu.Lock()
	n.unsent = append(n.unsent, events...)
	if len(n.unsent) > maxUnsent {
		n.unsent = []store.Event{{Kind: store.EventMissed}}
	}
	n.mu.Unlock()
	select {
	case n.bell <- struct{}{}:
	default:
	}
}

// heed records that another server listens, and may have listened for a while.
func (n *notifier) heed() {
	if !n.heeded.Swap(true) && n.unsaid.Swap(false) {
		n.add(store.Event{Kind: store.EventMissed})
	}
}

func (n *notifier) take() []store.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	events := n.unsent
	n.unsent = nil
	return events
}

// run sends until the store closes.
func (n *notifier) run() {
	var conn *pgx.Conn
	defer func() { closeConn(conn) }()
	for {
		select {
		case <-n.bell:
		case <-n.db.closed.Done():
			ctx, cancel := context.WithTimeout(context.Background(), lastTimeout)
			defer cancel()
			if events := n.take(); len(events) > 0 {
				_ = n.send(ctx, &conn, events) // otherwise the others find out themselves
			}
			return
		}
		n.deliver(&conn)
	}
}

// deliver sends what is unsent. It tries until that succeeds or the store closes.
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
		n.db.makeRoom(err)
		if !unavailable(err) {
			n.db.log.Error("can't notify other servers on the same database", "error", err)
			return
		}
		// The connection may have broken unnoticed, so the second try follows immediately.
		if try > 0 && !sleep(n.db.closed, backoff(try)) {
			return
		}
	}
}

const notifySQL = `SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload`

func (n *notifier) send(ctx context.Context, conn **pgx.Conn, events []store.Event) (err error) {
	if *conn == nil {
		if *conn, err = pgx.ConnectConfig(ctx, n.db.dial()); err != nil {
			return err
		}
		// Nothing needs to be durable here, and a sync would delay all servers that notify.
		if _, err = (*conn).Exec(ctx, `SET synchronous_commit = off`); err != nil {
			return err
		}
	}
	_, err = (*conn).Exec(ctx, notifySQL, channel, pack(n.db.id, events))
	return err
}
