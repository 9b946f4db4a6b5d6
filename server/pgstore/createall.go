package pgstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/relukko/relukko-go/server/store"
)

// giveTurnSQL begins the turn of the waiter to which a name is left.
const giveTurnSQL = `SELECT pg_advisory_xact_lock(1919708012, hashtext($1::text)),
	relukko_go.others_turn($1, $2, interval '0', clock_timestamp())`

// CreateAll implements [store.Store], in one transaction. A name that is left to a waiter of
// another server counts as held. That waiter is preferred even if it has waited less: no note is
// left that somebody waits here for all of several names.
func (s *Store) CreateAll(ctx context.Context, in []store.NewLock) ([]store.Lock, error) {
	ids, names := make([]pgtype.UUID, len(in)), make([]string, len(in))
	for i := range in {
		var ok bool
		if ids[i], ok = parseID(in[i].ID); !ok {
			return nil, fmt.Errorf("relukko: lock %q: %q is not a UUID", in[i].Name, in[i].ID)
		}
		names[i] = in[i].Name
	}
	created, worst, err := s.createAll(ctx, ids, names, in)
	switch {
	case err != nil:
		return nil, err
	case worst == cancelled:
		return nil, store.ErrCancelled
	case worst == superseded:
		return nil, store.ErrSuperseded
	}
	locks := make([]store.Lock, len(in))
	for i := range created {
		switch c := &created[i]; {
		case worst == made:
			locks[i] = c.lock()
			s.tracker.made(names[i])
			s.tell(store.EventCreated, locks[i])
		case c.outcome == held:
			locks[i] = c.lock()
			s.tracker.held(in[i], locks[i])
		case c.outcome == left:
			locks[i].Name = names[i]
			s.tracker.left(names[i], c.until())
			s.giveTurn(ctx, names[i])
		}
	}
	if worst != made {
		return locks, store.ErrHeld
	}
	return locks, nil
}

// createAll makes the locks, unless one of the outcomes, of which it returns the greatest, is not
// that one is made.
func (s *Store) createAll(
	ctx context.Context, ids []pgtype.UUID, names []string, in []store.NewLock,
) (created []creation, worst int, err error) {
	created = make([]creation, len(in))
	err = s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		all := new(pgx.Batch)
		all.Queue(locksSQL, []*string{markOf(in[0])}, names, lockTimeout)
		for i := range in {
			all.Queue(createSQL, s.createArgs(ids[i], in[i])...).QueryRow(created[i].scan)
		}
		if err := tx.SendBatch(ctx, all).Close(); err != nil {
			_ = tx.Rollback(ctx)
			return err
		}
		for i := range created {
			worst = max(worst, created[i].outcome)
		}
		if worst != made {
			return tx.Rollback(ctx)
		}
		return tx.Commit(ctx)
	})
	return created, worst, err
}

// giveTurn begins the turn of the waiter to which a name is left, which was rolled back with the
// creates: if its server is gone, the name is free when the turn ends. An error costs time only.
func (s *Store) giveTurn(ctx context.Context, name string) {
	_ = s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, giveTurnSQL, name, s.id)
		return err
	})
}
