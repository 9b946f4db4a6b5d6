package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

// handOverLocksSQL takes the advisory locks of create_lock, in the same order, before the row of
// the lock to be deleted is locked. A Cancel that holds a mark waits for rows, so a transaction
// that holds a row must not wait for a mark.
const handOverLocksSQL = `SELECT
	CASE WHEN $1::text IS NOT NULL
		THEN pg_advisory_xact_lock_shared(1919708011, hashtext($1::text)) END,
	pg_advisory_xact_lock(1919708012, hashtext($2::text))`

// HandOver implements [store.Store], in one round trip and one commit. The name goes to the waiter
// that has waited longest. If that is one of another server, the create reports ErrHeld, and the
// other server hears of the deletion.
func (s *Store) HandOver(
	ctx context.Context, id string, end store.Ending, next store.NewLock,
) (both store.Handover, err error) {
	old, ok := parseID(id)
	its, fine := parseID(next.ID)
	if !ok || !fine {
		return both, fmt.Errorf("relukko: lock %q: %q or %q is not a UUID",
			next.Name, id, next.ID)
	}
	var deleted row
	var created creation
	err = s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		all := new(pgx.Batch) // in one transaction
		all.Queue(handOverLocksSQL, markOf(next), next.Name)
		all.Queue(deleteSQL, old, s.endingText(end)).QueryRow(func(row pgx.Row) error {
			err := row.Scan(deleted.fields()...)
			if errors.Is(err, pgx.ErrNoRows) {
				both.DeleteErr = store.ErrGone
				return nil
			}
			return err
		})
		all.Queue(createSQL, s.createArgs(its, next)...).QueryRow(func(row pgx.Row) error {
			return row.Scan(created.fields()...)
		})
		return conn.SendBatch(ctx, all).Close()
	})
	if err != nil {
		if unknownOutcome(err) {
			s.tracker.outcomeUnknown(id, next.Name)
		}
		return store.Handover{}, err
	}
	if both.DeleteErr == nil {
		both.Deleted = deleted.lock()
		s.gone(both.Deleted)
	}
	both.Created = created.lock()
	switch created.outcome {
	case made:
		s.tracker.made(next.Name)
		s.tell(store.EventCreated, both.Created)
	case cancelled:
		both.CreateErr = store.ErrCancelled
	case superseded:
		both.CreateErr = store.ErrSuperseded
	case held:
		s.tracker.held(next, both.Created)
		both.CreateErr = store.ErrHeld
	case left:
		s.tracker.left(next.Name, created.until())
		both.CreateErr = store.ErrHeld
	}
	return both, nil
}
