package pgstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

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
	mark := markOf(next)
	err = s.changes.do(ctx, &change{
		row: old, mark: mark, name: &next.Name,
		queue: func(all *pgx.Batch) {
			all.Queue(handOverSQL, old, s.endingText(end), mark, next.Name).QueryRow(deleted.scan)
			all.Queue(createSQL, s.createArgs(its, next)...).QueryRow(created.scan)
		},
	})
	if err != nil {
		if unknownOutcome(err) {
			s.tracker.outcomeUnknown(id, next.Name)
		}
		return store.Handover{}, err
	}
	if both.Deleted, both.DeleteErr = found(&deleted, nil); both.DeleteErr == nil {
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
