package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	sweepBatch  = 256                    // locks that one sweep deletes at most
	forgetBatch = 1000                   // marks that one sweep forgets at most
	sweepPause  = time.Second            // until the next: other servers' locks come due too
	sweepAgain  = 100 * time.Millisecond // when another server is sweeping what is due
)

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, id string) (store.Lock, error) {
	key, ok := parseID(id)
	if !ok {
		return store.Lock{}, store.ErrGone
	}
	return s.one(ctx, getSQL, key)
}

// Holder implements [store.Store].
func (s *Store) Holder(ctx context.Context, name string) (store.Lock, error) {
	lock, err := s.one(ctx, holderSQL, name)
	if err == nil {
		s.tracker.inTheWay(lock)
	}
	return lock, err
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context) (locks []store.Lock, err error) {
	err = s.callList(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, listSQL) // its error comes with the rows
		locks, err = collect(rows)
		return err
	})
	return locks, err
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, id string, change store.Change) (store.Lock, error) {
	lock, err := s.changeOne(ctx, updateSQL, id,
		change.Creator, change.ExpiresAt, change.Lease, change.Extend, change.MaxHold)
	switch {
	case violates(err, codeCheck, timeConstraint):
		return store.Lock{}, store.ErrOutOfRange
	case err == nil:
		s.tell(store.EventUpdated, lock)
	}
	return lock, err
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, id string, end store.Ending) (store.Lock, error) {
	lock, err := s.changeOne(ctx, deleteSQL, id, s.endingText(end))
	if err == nil {
		s.gone(lock)
	}
	return lock, err
}

// Sweep implements [store.Store]. Of all servers, one sweeps a lock.
func (s *Store) Sweep(ctx context.Context, limits store.Limits) (swept store.Swept, err error) {
	keep, pruned := s.limits(), 0
	err = s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		all := new(pgx.Batch) // in one transaction
		all.Queue(sweepSQL, limits.Grace, limits.Latest, limits.Steady, sweepBatch).Query(
			func(rows pgx.Rows) (err error) {
				swept.Locks, err = collect(rows)
				return err
			})
		all.Queue(nextSQL, limits.Grace, limits.Steady, sweepPause).QueryRow(
			func(row pgx.Row) error { return row.Scan(&swept.Now, &swept.Next) })
		all.Queue(forgetSQL, forgetBatch)
		all.Queue(pruneSQL, keep.Age, int64(keep.Max), pruneBatch).QueryRow(
			func(row pgx.Row) error { return row.Scan(&pruned) })
		return conn.SendBatch(ctx, all).Close()
	})
	switch {
	case err != nil:
		return store.Swept{}, err
	case len(swept.Locks) == sweepBatch || pruned == pruneBatch:
		swept.Next = 0
	default:
		swept.Next = max(swept.Next, sweepAgain)
	}
	swept.Now = swept.Now.UTC()
	s.gone(swept.Locks...)
	return swept, nil
}

// Ping implements [store.Store]: the database must be one that takes changes.
func (s *Store) Ping(ctx context.Context) error {
	return s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		var readOnly bool
		const sql = `SELECT current_setting('transaction_read_only')::boolean`
		err := conn.QueryRow(ctx, sql).Scan(&readOnly)
		if err == nil && readOnly {
			err = errReadOnly
		}
		return err
	})
}

// changeOne carries out a statement that changes at most one lock, and has its id as the first
// argument.
func (s *Store) changeOne(ctx context.Context, sql, id string, args ...any) (store.Lock, error) {
	key, ok := parseID(id)
	if !ok {
		return store.Lock{}, store.ErrGone
	}
	var r row
	return found(&r, s.changes.do(ctx, &change{row: key, queue: func(all *pgx.Batch) {
		all.Queue(sql, append([]any{key}, args...)...).QueryRow(r.scan)
	}}))
}

// one runs a query that returns at most one lock.
func (s *Store) one(ctx context.Context, sql string, arg any) (store.Lock, error) {
	var r row
	return found(&r, s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		return r.scan(conn.QueryRow(ctx, sql, arg))
	}))
}

func found(r *row, err error) (store.Lock, error) {
	switch {
	case err != nil:
		return store.Lock{}, err
	case !r.id.Valid:
		return store.Lock{}, store.ErrGone
	}
	return r.lock(), nil
}
