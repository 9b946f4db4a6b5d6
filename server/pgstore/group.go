package pgstore

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	maxUnderWay = 2  // transactions of changes, apart from slow ones
	maxGroup    = 64 // changes in one transaction

	// slowAfter is when a transaction counts as slow, so that it keeps no other from beginning. A
	// group waits no longer for a lock.
	slowAfter = 100 * time.Millisecond
)

// change is a call of Create, Update, Delete or HandOver.
type change struct {
	row        pgtype.UUID      // the id of the row that it locks; the zero UUID: none
	mark, name *string          // whose advisory locks its create takes; nil: none
	queue      func(*pgx.Batch) // adds its statements, whose results may come twice

	done chan struct{} // closed when err is set
	err  error
}

// changes carries out changes, each of which is to be durable when its call returns. A change that
// comes while fewer than maxUnderWay transactions are under way has one of its own immediately.
// Those that come later wait, and share the next one: a commit costs more than a statement.
//
// A call must not suffer for those that it shares a transaction with. Where PostgreSQL reports an
// error, as when a row is not free soon, nothing has taken effect, and each has a transaction of
// its own.
type changes struct {
	db *database

	mu       sync.Mutex
	underWay int // transactions that are not slow
	waiting  []*change
}

// do carries out c. While c waits it can be withdrawn: by the end of ctx, or after callTimeout.
func (g *changes) do(ctx context.Context, c *change) error {
	if g.begin(c) {
		defer g.ended(time.AfterFunc(slowAfter, g.next))
		return g.alone(ctx, c)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := g.wait(ctx, c)
	if errors.Is(err, errAlone) {
		return g.alone(ctx, c)
	}
	return err
}

// begin reports whether c need not wait.
func (g *changes) begin(c *change) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.underWay < maxUnderWay {
		g.underWay++
		return true
	}
	c.done = make(chan struct{})
	g.waiting = append(g.waiting, c)
	return false
}

// ended makes way for the next transaction, unless slow has done so.
func (g *changes) ended(slow *time.Timer) {
	if slow.Stop() {
		g.next()
	}
}

// next begins a transaction for what waits, in place of one that has ended or is slow.
func (g *changes) next() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.underWay--
		return
	}
	go g.together()
}

func (g *changes) alone(ctx context.Context, c *change) error {
	return g.db.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		return send(ctx, conn, c)
	})
}

// wait returns the error of c, or errAlone. The outcome is unknown if the time is over during the
// transaction of the group, which others may have begun later.
func (g *changes) wait(ctx context.Context, c *change) error {
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	if g.withdraw(c) {
		return classify(&notSentError{ctx.Err()})
	}
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return classify(ctx.Err())
	}
}

// withdraw reports whether c was still waiting.
func (g *changes) withdraw(c *change) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, c)
	if i < 0 {
		return false
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	return true
}

// take returns the changes that have waited longest.
func (g *changes) take() []*change {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), maxGroup)
	group := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	return group
}

// errAlone is the error of a change that is to be carried out alone.
var errAlone = errors.New("carry it out alone")

// together carries out what waits when there is a connection.
func (g *changes) together() {
	defer g.ended(time.AfterFunc(slowAfter, g.next))
	var group []*change
	err := g.db.call(context.Background(), callTimeout,
		func(_ context.Context, conn *pgx.Conn) error {
			group = g.take()
			ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
			defer cancel()
			return send(ctx, conn, group...)
		})
	var notSent *notSentError
	switch {
	case errors.As(err, &notSent) && !errors.Is(err, context.DeadlineExceeded):
		group = g.take() // those that wait have the same database; a deadline is not theirs
	case len(group) > 1 && rolledBack(err):
		err = errAlone
	}
	for _, c := range group {
		c.err = err
		close(c.done)
	}
}

// locksSQL takes the advisory locks of the creates of a transaction: those of marks, then those of
// names, and each in an order that is the same for all. Then none waits for another that waits for
// it. All are taken before the first row is locked: a Cancel that holds a mark waits for rows, so a
// transaction that has locked a row must not wait for a mark.
const locksSQL = `SELECT set_config('lock_timeout', $3, true),
	(SELECT count(pg_advisory_xact_lock_shared(1919708011, h.hash)) FROM (
		SELECT DISTINCT hashtext(mark) AS hash FROM unnest($1::text[]) mark ORDER BY 1) h),
	(SELECT count(pg_advisory_xact_lock(1919708012, h.hash)) FROM (
		SELECT DISTINCT hashtext(name) AS hash FROM unnest($2::text[]) name ORDER BY 1) h)`

// send carries out the changes in one transaction. Rows, too, are locked in one order, whichever
// server does it. A cancel that deletes several locks has an order of its own, but a group does not
// wait for long.
func send(ctx context.Context, conn *pgx.Conn, group ...*change) error {
	all := new(pgx.Batch) // in one transaction
	if len(group) > 1 {
		slices.SortStableFunc(group, func(a, b *change) int {
			return bytes.Compare(a.row.Bytes[:], b.row.Bytes[:])
		})
		marks, names := make([]*string, len(group)), make([]*string, len(group))
		for i, c := range group {
			marks[i], names[i] = c.mark, c.name
		}
		all.Queue(locksSQL, marks, names, slowAfter.String())
	}
	for _, c := range group {
		c.queue(all)
	}
	if all.Len() == 1 { // a pipeline of the driver would take longer
		only := all.QueuedQueries[0]
		return only.Fn(single{row: conn.QueryRow(ctx, only.SQL, only.Arguments...)})
	}
	return conn.SendBatch(ctx, all).Close()
}

// single has the row of a batch of one statement.
type single struct {
	pgx.BatchResults
	row pgx.Row
}

func (s single) QueryRow() pgx.Row { return s.row }
