package pgstore

import (
	"bytes"
	"context"
	"errors"
	"math"
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

	// Of one that waits.
	n    uint64        // the first to come has the lowest
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
	running  map[*transaction]struct{}
	underWay int // of those that run, not the slow ones
	waiting  []*change
	n        uint64 // of the change that waited last
}

// transaction is one that runs.
type transaction struct {
	began time.Time
	slow  *time.Timer // nil while nothing waits for its end
}

func (g *changes) init(db *database) { g.db, g.running = db, make(map[*transaction]struct{}) }

// do carries out c. While c waits it can be withdrawn: by the end of ctx, or after callTimeout.
func (g *changes) do(ctx context.Context, c *change) error {
	if t := g.begin(c); t != nil {
		defer g.ended(t)
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

// begin returns a transaction for c, or nil if c waits.
func (g *changes) begin(c *change) *transaction {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.underWay < maxUnderWay {
		g.underWay++
		return g.start()
	}
	g.n++
	c.n, c.done = g.n, make(chan struct{})
	g.waiting = append(g.waiting, c)
	for t := range g.running {
		g.watch(t)
	}
	return nil
}

// start returns a transaction that begins. The caller holds g.mu.
func (g *changes) start() *transaction {
	t := &transaction{began: time.Now()}
	g.running[t] = struct{}{}
	return t
}

// watch has the next transaction begin when t is slow. The caller holds g.mu.
func (g *changes) watch(t *transaction) {
	if t.slow == nil {
		t.slow = time.AfterFunc(slowAfter-time.Since(t.began), func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.next()
		})
	}
}

// ended makes way for the next transaction, unless t was slow.
func (g *changes) ended(t *transaction) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.running, t)
	if t.slow == nil || t.slow.Stop() {
		g.next()
	}
}

// next begins a transaction for what waits, in place of one that has ended or is slow. The caller
// holds g.mu.
func (g *changes) next() {
	if len(g.waiting) == 0 {
		g.underWay--
		return
	}
	t := g.start()
	g.watch(t)
	go g.together(t)
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

// take returns the changes that have waited longest, but none that came after the one with number
// last.
func (g *changes) take(last uint64) []*change {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for n < min(len(g.waiting), maxGroup) && g.waiting[n].n <= last {
		n++
	}
	group := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	return group
}

// last returns the number of the change that waited last.
func (g *changes) last() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

// errAlone is the error of a change that is to be carried out alone.
var errAlone = errors.New("carry it out alone")

// together carries out what waits when there is a connection.
func (g *changes) together(t *transaction) {
	defer g.ended(t)
	var group []*change
	last := g.last()
	err := g.db.call(context.Background(), callTimeout,
		func(_ context.Context, conn *pgx.Conn) error {
			group = g.take(math.MaxUint64)
			ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
			defer cancel()
			return send(ctx, conn, group...)
		})
	var notSent *notSentError
	switch {
	case errors.As(err, &notSent) && !errors.Is(err, context.DeadlineExceeded):
		group = g.take(last) // the database had no connection for them; a deadline is not theirs
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
