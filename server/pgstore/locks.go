package pgstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	sweepBatch = 256                    // locks that one sweep deletes at most
	sweepPause = time.Second            // until the next: other servers' locks come due too
	sweepAgain = 100 * time.Millisecond // when what is due is in other hands at this instant

	fields   = `id, name, creator, ip, expires_at, created_at, updated_at, token`
	ofResult = `(lock).id, (lock).name, (lock).creator, (lock).ip, (lock).expires_at, (lock).created_at, (lock).updated_at, (lock).token`

	createSQL  = `SELECT outcome, leave, ` + ofResult + ` FROM relukko_go.create_lock($1, $2, $3, $4, $5, $6, $7, $8)`
	findSQL    = `SELECT ` + fields + ` FROM relukko_go.find_created($1, $2)`
	getSQL     = `SELECT ` + fields + ` FROM relukko_go.locks WHERE id = $1`
	holderSQL  = `SELECT ` + fields + ` FROM relukko_go.locks WHERE name = $1`
	listSQL    = `SELECT ` + fields + ` FROM relukko_go.locks ORDER BY token`
	deleteSQL  = `DELETE FROM relukko_go.locks WHERE id = $1 RETURNING ` + fields
	callOffSQL = `SELECT ` + fields + ` FROM relukko_go.call_off($1, $2)`
	sweepSQL   = `SELECT ` + fields + ` FROM relukko_go.sweep($1, $2)`

	updateSQL = `UPDATE relukko_go.locks l SET
	creator = coalesce($2, l.creator), updated_at = clock.now, expires_at = coalesce($3, clock.now + $4, l.expires_at + $5)
	FROM (SELECT clock_timestamp() AS now) clock WHERE l.id = $1 RETURNING ` + fields

	// Not further ahead than sweepPause: a time span of thousands of years does not fit a time.Duration. The subquery has
	// the index answer; a join would read all locks.
	nextSQL = `SELECT least((SELECT min(l.expires_at) FROM relukko_go.locks l) + $1, clock.now + $2) - clock.now
	FROM (SELECT clock_timestamp() AS now) clock`
)

// What create_lock says.
const (
	made = iota
	held
	calledOff
	left // to somebody who waits on another server
)

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, id string) (store.Lock, error) {
	return s.oneByID(ctx, getSQL, id)
}

// Holder implements [store.Store].
func (s *Store) Holder(ctx context.Context, name string) (store.Lock, error) {
	return s.one(ctx, holderSQL, name)
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context) (locks []store.Lock, err error) {
	err = s.call(ctx, listTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, listSQL) // its error comes with the rows
		locks, err = collect(rows)
		return err
	})
	return locks, err
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, id string, change store.Change) (store.Lock, error) {
	lock, err := s.oneByID(ctx, updateSQL, id, change.Creator, change.ExpiresAt, change.Lease, change.Extend)
	switch {
	case violates(err, codeCheck, timeConstraint):
		return store.Lock{}, store.ErrOutOfRange
	case err == nil:
		s.tell(store.EventUpdated, lock)
	}
	return lock, err
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, id string) (store.Lock, error) {
	lock, err := s.oneByID(ctx, deleteSQL, id)
	if err == nil {
		s.gone(lock)
	}
	return lock, err
}

// CallOff implements [store.Store]. Marks are kept in the database until their time is over, however many they are.
func (s *Store) CallOff(ctx context.Context, mark string, keep time.Duration) (locks []store.Lock, err error) {
	err = s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, callOffSQL, mark, keep)
		locks, err = collect(rows)
		return err
	})
	if err == nil {
		s.notifier.add(store.Event{Kind: store.EventCalledOff, Mark: mark})
		s.gone(locks...)
	}
	return locks, err
}

// Sweep implements [store.Store]. However many servers sweep, a lock is swept by one of them.
func (s *Store) Sweep(ctx context.Context, grace time.Duration) (swept []store.Lock, next time.Duration, err error) {
	err = s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		both := new(pgx.Batch) // in one transaction, with one answer
		both.Queue(sweepSQL, grace, sweepBatch).Query(func(rows pgx.Rows) error {
			swept, err = collect(rows)
			return err
		})
		both.Queue(nextSQL, grace, sweepPause).QueryRow(func(row pgx.Row) error { return row.Scan(&next) })
		return conn.SendBatch(ctx, both).Close()
	})
	switch {
	case err != nil:
		return nil, sweepPause, err
	case len(swept) == sweepBatch:
		next = 0
	default:
		next = max(next, sweepAgain)
	}
	s.gone(swept...)
	return swept, next, nil
}

// Ping implements [store.Store]: the database must be one that takes changes.
func (s *Store) Ping(ctx context.Context) error {
	return s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		var readOnly bool
		err := conn.QueryRow(ctx, `SELECT current_setting('transaction_read_only')::boolean`).Scan(&readOnly)
		if err == nil && readOnly {
			err = errReadOnly
		}
		return err
	})
}

// oneByID runs a statement that answers at most one lock, and whose first argument is the lock's id.
func (s *Store) oneByID(ctx context.Context, sql, id string, args ...any) (store.Lock, error) {
	key, ok := parseID(id)
	if !ok {
		return store.Lock{}, store.ErrGone
	}
	return s.one(ctx, sql, append([]any{key}, args...)...)
}

// one runs a statement that answers at most one lock.
func (s *Store) one(ctx context.Context, sql string, args ...any) (store.Lock, error) {
	var r row
	err := s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, sql, args...).Scan(r.fields()...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Lock{}, store.ErrGone
	}
	if err != nil {
		return store.Lock{}, err
	}
	return r.lock(), nil
}

func collect(rows pgx.Rows) ([]store.Lock, error) {
	locks := []store.Lock{}
	var r row
	_, err := pgx.ForEachRow(rows, r.fields(), func() error {
		locks = append(locks, r.lock())
		return nil
	})
	return locks, err
}

// row takes a lock from the database. All of it is null where there is none.
type row struct {
	id                        pgtype.UUID
	name, creator, ip         *string
	expires, created, updated pgtype.Timestamptz
	token                     *int64
}

func (r *row) fields() []any {
	return []any{&r.id, &r.name, &r.creator, &r.ip, &r.expires, &r.created, &r.updated, &r.token}
}

func (r *row) lock() store.Lock {
	if !r.id.Valid {
		return store.Lock{}
	}
	return store.Lock{
		ID: r.id.String(), Name: *r.name, Creator: r.creator, IP: *r.ip,
		ExpiresAt: r.expires.Time.UTC(), CreatedAt: r.created.Time.UTC(), UpdatedAt: r.updated.Time.UTC(),
		FencingToken: uint64(*r.token),
	}
}

func parseID(id string) (key pgtype.UUID, ok bool) {
	return key, len(id) == 36 && key.Scan(id) == nil
}

// tell has the other servers told of something that happened to a lock.
func (s *Store) tell(kind store.EventKind, lock store.Lock) {
	s.notifier.add(store.Event{Kind: kind, Lock: lock})
}

// gone takes in that locks were deleted through this store.
func (s *Store) gone(locks ...store.Lock) {
	events := make([]store.Event, len(locks))
	for i, lock := range locks {
		events[i] = store.Event{Kind: store.EventDeleted, Lock: lock}
		s.lookout.free(lock)
	}
	s.notifier.add(events...)
}
