package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Create implements [store.Store]. A free name is left to the waiter of any server that has waited
// longest. A create that has waited less then returns ErrHeld; one that has not waited at all
// retries until that waiter has the name, or has had its time.
func (s *Store) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	id, ok := parseID(in.ID)
	if !ok {
		return store.Lock{}, fmt.Errorf("relukko: lock %q: %q is not a UUID", in.Name, in.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	leaving, stop := context.WithTimeout(ctx, callTimeout/2) // the last try needs time as well
	defer stop()
	for pause := 2 * time.Millisecond; ; pause *= 2 {
		lock, outcome, leave, err := s.create(ctx, id, in)
		switch {
		case violates(err, codeUnique, nameConstraint):
			continue // another create was faster
		case unknownOutcome(err):
			if lock, ok = s.findCreated(id, in.Name); !ok {
				return store.Lock{}, err
			}
		case err != nil:
			return store.Lock{}, err
		case outcome == cancelled:
			return store.Lock{}, store.ErrCancelled
		case outcome == superseded:
			return store.Lock{}, store.ErrSuperseded
		case outcome == held:
			s.tracker.held(in, lock)
			return lock, store.ErrHeld
		case outcome == left && in.Waited != 0:
			s.tracker.left(in.Name, leave)
			return store.Lock{}, store.ErrHeld
		case outcome == left:
			if !sleep(leaving, min(pause, leave)) {
				return store.Lock{}, store.ErrHeld
			}
			continue
		}
		s.tracker.made(in.Name)
		s.tell(store.EventCreated, lock)
		return lock, nil
	}
}

func (s *Store) create(ctx context.Context, id pgtype.UUID, in store.NewLock) (
	lock store.Lock, outcome int, leave time.Duration, err error,
) {
	var c creation
	err = s.changes.do(ctx, &change{mark: markOf(in), name: &in.Name, queue: func(all *pgx.Batch) {
		all.Queue(createSQL, s.createArgs(id, in)...).QueryRow(c.scan)
	}})
	if err != nil {
		return store.Lock{}, 0, 0, err
	}
	return c.lock(), c.outcome, c.until(), nil
}

// createArgs returns the arguments of createSQL.
func (s *Store) createArgs(id pgtype.UUID, in store.NewLock) []any {
	return []any{id, in.Name, in.Creator, in.IP, in.TTL, markOf(in), in.Waited, s.id,
		in.Leased, in.Owner, int64(in.Claim), in.Queued}
}

// markOf returns the mark, or nil if there is none.
func markOf(in store.NewLock) *string {
	if in.Mark == "" {
		return nil
	}
	return &in.Mark
}

// creation is a row that createSQL returns.
type creation struct {
	outcome int
	leave   *time.Duration
	row
}

func (c *creation) scan(from pgx.Row) error {
	return from.Scan(append([]any{&c.outcome, &c.leave}, c.row.fields()...)...)
}

// until returns how long the name is left to another server.
func (c *creation) until() time.Duration {
	if c.leave == nil {
		return 0
	}
	return *c.leave
}

// findCreated returns the lock of a create whose outcome is unknown.
func (s *Store) findCreated(id pgtype.UUID, name string) (store.Lock, bool) {
	var r row
	err := s.call(context.Background(), findTimeout,
		func(ctx context.Context, conn *pgx.Conn) error {
			return conn.QueryRow(ctx, findSQL, id, name).Scan(r.fields()...)
		})
	return r.lock(), err == nil
}
