package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Claim implements [store.Store]. It waits for the creates of the mark that are under way.
func (s *Store) Claim(ctx context.Context, owner, mark string) (
	claim uint64, locks []store.Lock, err error,
) {
	return s.mark(ctx, claimSQL, owner, mark, store.ClaimTime)
}

// Cancel implements [store.Store]. It waits for the creates of the mark that are under way.
func (s *Store) Cancel(ctx context.Context, owner, mark string) ([]store.Lock, error) {
	_, locks, err := s.mark(ctx, cancelSQL, owner, mark, store.ClaimTime, store.MaxMarks)
	if err == nil {
		s.notifier.add(store.Event{
			Kind: store.EventCancelled, Lock: store.Lock{Owner: owner}, Mark: mark,
		})
		s.gone(locks...)
	}
	return locks, err
}

// mark runs claim_mark or cancel_mark.
func (s *Store) mark(ctx context.Context, sql string, args ...any) (
	claim uint64, locks []store.Lock, err error,
) {
	var outcome int
	err = s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, sql, args...) // its error comes with the rows
		var its int
		var newClaim *int64
		var r row
		fields := append([]any{&its, &newClaim}, r.fields()...)
		_, err := pgx.ForEachRow(rows, fields, func() error {
			if r.id.Valid {
				locks = append(locks, r.lock())
				return nil
			}
			outcome = its
			if newClaim != nil {
				claim = uint64(*newClaim)
			}
			return nil
		})
		return err
	})
	switch {
	case err != nil:
		return 0, nil, err
	case outcome == cancelled:
		return 0, nil, store.ErrCancelled
	case outcome == tooMany:
		return 0, nil, store.ErrTooManyMarks
	}
	return claim, locks, nil
}
