package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Create implements [store.Store]. A name that is free is left to whoever has waited for it longest, on any server: a create that
// has queued is then answered ErrHeld, one that has not waits until the other has taken the name, or has had time enough to.
func (s *Store) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	id, ok := parseID(in.ID)
	if !ok {
		return store.Lock{}, fmt.Errorf("relukko: lock %q: %q is no UUID", in.Name, in.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	leaving, stop := context.WithTimeout(ctx, callTimeout/2) // so that the last try has its time
	defer stop()
	for pause := 2 * time.Millisecond; ; pause *= 2 {
		lock, outcome, leave, err := s.create(ctx, id, in)
		switch {
		case violates(err, codeUnique, nameConstraint):
			continue // somebody has got round create_lock
		case inDoubt(err):
			// The commit may have gone through, only its answer is lost.
			if lock, ok = s.findCreated(id, in.Name); !ok {
				return store.Lock{}, err
			}
		case err != nil:
			return store.Lock{}, err
		case outcome == calledOff:
			return store.Lock{}, store.ErrCalledOff
		case outcome == held:
			s.lookout.held(in, lock)
			return lock, store.ErrHeld
		case outcome == left && in.Waited > 0:
			s.lookout.left(in.Name, leave)
			return store.Lock{}, store.ErrHeld
		case outcome == left:
			if !sleep(leaving, min(pause, leave)) {
				return store.Lock{}, store.ErrHeld
			}
			continue
		}
		s.lookout.made(in.Name)
		s.tell(store.EventCreated, lock)
		return lock, nil
	}
}

func (s *Store) create(ctx context.Context, id pgtype.UUID, in store.NewLock) (lock store.Lock, outcome int, leave time.Duration, err error) {
	var c creation
	err = s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, createSQL, s.createArgs(id, in)...).Scan(c.fields()...)
	})
	if err == nil {
		lock = c.lock()
	}
	return lock, c.outcome, c.until(), err
}

// createArgs are the arguments of createSQL.
func (s *Store) createArgs(id pgtype.UUID, in store.NewLock) []any {
	return []any{id, in.Name, in.Creator, in.IP, in.TTL, markOf(in), in.Waited, s.id}
}

// markOf answers nil where there is no mark.
func markOf(in store.NewLock) *string {
	if in.Mark == "" {
		return nil
	}
	return &in.Mark
}

// creation takes what createSQL answers.
type creation struct {
	outcome int
	leave   *time.Duration
	row
}

func (c *creation) fields() []any { return append([]any{&c.outcome, &c.leave}, c.row.fields()...) }

// until answers for how long the name is left to another server.
func (c *creation) until() time.Duration {
	if c.leave == nil {
		return 0
	}
	return *c.leave
}

// findCreated answers the lock that a create has made whose answer was lost.
func (s *Store) findCreated(id pgtype.UUID, name string) (store.Lock, bool) {
	var r row
	err := s.call(context.Background(), findTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, findSQL, id, name).Scan(r.fields()...)
	})
	return r.lock(), err == nil
}

// sleep answers false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
