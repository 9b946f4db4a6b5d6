package pgstore

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/relukko/relukko-go/server/store"
)

// poll says what no notification says, until ctx ends.
func (s *Store) poll(ctx context.Context, say func(store.Event)) {
	checked := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.tracker.bell:
		case <-timer.C:
		}
		began := time.Now()
		free, obsolete, check, wait := s.tracker.due(began, checked)
		for _, name := range free {
			say(nameIsFree(name))
		}
		s.withdraw(obsolete)
		if check {
			s.checkHolders(ctx, say)
			checked = time.Now()
		}
		timer.Reset(wait - time.Since(began))
	}
}

func nameIsFree(name string) store.Event {
	return store.Event{Kind: store.EventFree, Lock: store.Lock{Name: name}}
}

// withdrawSQL skips rows that another transaction has locked: each could wait for the other.
const withdrawSQL = `WITH mine AS MATERIALIZED (
		SELECT name FROM relukko_go.waiting WHERE server = $1 AND name = ANY ($2)
		FOR UPDATE SKIP LOCKED)
	DELETE FROM relukko_go.waiting w USING mine
		WHERE w.name = mine.name AND w.server = $1 RETURNING w.name`

// withdraw deletes the notes about waiters of this server that seem to have left, and tells the
// servers that leave the names to them. A waiter that is still there is noted again with its next
// try.
func (s *Store) withdraw(names []string) {
	if len(names) == 0 {
		return
	}
	var withdrawn []string
	err := s.call(context.Background(), findTimeout,
		func(ctx context.Context, conn *pgx.Conn) (err error) {
			rows, _ := conn.Query(ctx, withdrawSQL, s.id, names)
			withdrawn, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
	if err != nil {
		return // the others wait until the turn is over
	}
	for _, name := range withdrawn {
		s.notifier.add(nameIsFree(name))
	}
}

// keepNotes renews the notes about waiters of this server until ctx ends.
func (s *Store) keepNotes(ctx context.Context) {
	for sleep(ctx, renewEvery) {
		s.renewNotes(s.tracker.noted())
	}
}

const renewSQL = `WITH mine AS MATERIALIZED (
		SELECT name FROM relukko_go.waiting WHERE server = $1 AND name = ANY ($2)
		FOR UPDATE SKIP LOCKED)
	UPDATE relukko_go.waiting w SET until = clock_timestamp() + interval '40 seconds' FROM mine
		WHERE w.name = mine.name AND w.server = $1`

func (s *Store) renewNotes(names []string) {
	if len(names) == 0 {
		return
	}
	_ = s.call(context.Background(), callTimeout,
		func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, renewSQL, s.id, names)
			return err // otherwise the waiters are noted again with their next try
		})
}

const missingSQL = `SELECT u.id FROM unnest($1::uuid[]) AS u(id)
	WHERE NOT EXISTS (SELECT FROM relukko_go.locks l WHERE l.id = u.id)`

// checkHolders says which of the locks that were in the way of a create are gone.
func (s *Store) checkHolders(ctx context.Context, say func(store.Event)) {
	s.tracker.mu.Lock()
	holders := maps.Clone(s.tracker.holders)
	s.tracker.mu.Unlock()
	ids := make([]pgtype.UUID, 0, len(holders))
	for id := range holders {
		if key, ok := parseID(id); ok {
			ids = append(ids, key)
		}
	}
	var missing []pgtype.UUID
	err := s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) (err error) {
		rows, _ := conn.Query(ctx, missingSQL, ids)
		missing, err = pgx.CollectRows(rows, pgx.RowTo[pgtype.UUID])
		return err
	})
	if err != nil {
		return // next time
	}
	slices.SortFunc(missing, func(a, b pgtype.UUID) int {
		return slices.Compare(a.Bytes[:], b.Bytes[:])
	})
	for _, id := range missing {
		lock := holders[id.String()]
		s.tracker.free(lock)
		if lock.CreatedAt.IsZero() { // only its name is known
			say(store.Event{Kind: store.EventMissed})
			continue
		}
		say(store.Event{Kind: store.EventDeleted, Lock: lock})
	}
}
