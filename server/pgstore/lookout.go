package pgstore

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	maxHolders  = 10_000                 // locks that are looked at
	lookEvery   = time.Second            // while the other servers are heard
	lookDeaf    = 200 * time.Millisecond // while they are not: well within the time of a turn
	ownLineHas  = 50 * time.Millisecond  // to take a name that has come free, or it does not wait for it any more
	turnSlack   = 5 * time.Millisecond   // after the end of another's turn
	noteEndures = 40 * time.Second       // in the table waiting
)

// lookout finds out what nobody tells: that a lock is gone although the server that deleted it died before it said so, or could
// not be heard; that another server does not make use of its turn; that nobody waits any more for whom a note
// was left. Without it a lost notification would cost more than latency.
type lookout struct {
	bell chan struct{}

	mu      sync.Mutex
	next    time.Time // when it is going to look, if nobody rings
	deaf    bool
	holders map[string]store.Lock // by id: those that stood in somebody's way
	turns   map[string]time.Time  // by name: when the turn of another server is over
	tried   map[string]time.Time  // by name: the last try by the head of the own line, which left a note in the table waiting
	freed   []freed               // names with such a note that have come free, in the order of time
	tidied  time.Time             // when tried was last rid of what is too old
}

type freed struct {
	name string
	at   time.Time
}

func (l *lookout) init() {
	l.bell = make(chan struct{}, 1)
	l.deaf = true
	l.holders = make(map[string]store.Lock)
	l.turns = make(map[string]time.Time)
	l.tried = make(map[string]time.Time)
	l.tidied = time.Now()
	l.next = l.tidied
}

func (l *lookout) setDeaf(deaf bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = deaf
	l.ring()
}

// ring has the lookout reckon anew when to look next.
func (l *lookout) ring() {
	select {
	case l.bell <- struct{}{}:
	default:
	}
}

func (l *lookout) lookAfter() time.Duration {
	if l.deaf {
		return lookDeaf
	}
	return lookEvery
}

// expect has the lookout look at that time at the latest. A thousand names that come free do not wake it a thousand times.
func (l *lookout) expect(at time.Time) {
	if at.Before(l.next) {
		l.next = at
		l.ring()
	}
}

// held takes in that the holder stands in the way of a create.
func (l *lookout) held(in store.NewLock, holder store.Lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.await(holder)
	delete(l.turns, in.Name)
	if in.Waited > 0 {
		l.tried[in.Name] = time.Now()
	}
}

// await has the lookout look whether the lock is still there.
func (l *lookout) await(holder store.Lock) {
	switch len(l.holders) {
	case 0:
		l.expect(time.Now().Add(l.lookAfter()))
	case maxHolders:
		for id := range l.holders { // any
			delete(l.holders, id)
			break
		}
	}
	l.holders[holder.ID] = holder
}

// left takes in that the head of the own line has left the name to another server for that long.
func (l *lookout) left(name string, leave time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.turns[name] = now.Add(leave + turnSlack)
	l.tried[name] = now
	l.expect(l.turns[name])
}

// doubt takes in that a lock of that name may have been deleted without an answer.
func (l *lookout) doubt(id, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.holders[id]; !known {
		l.await(store.Lock{ID: id, Name: name})
	}
}

// made takes in that a create has succeeded: with it the note about the own line is gone.
func (l *lookout) made(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.turns, name)
	delete(l.tried, name)
}

// free takes in that a lock was deleted.
func (l *lookout) free(lock store.Lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.holders, lock.ID)
	if _, noted := l.tried[lock.Name]; noted {
		l.freed = append(l.freed, freed{lock.Name, time.Now()})
		l.expect(l.freed[0].at.Add(ownLineHas))
	}
}

// due answers which names may be free because another server's turn is over, and for which nobody waits here any more; whether it
// is time to look for the holders, which was last done at looked; and for how long there is nothing else to do.
func (l *lookout) due(now, looked time.Time) (free, nobody []string, look bool, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := now.Add(noteEndures)
	for name, at := range l.turns {
		if now.Before(at) {
			next = earlier(next, at)
			continue
		}
		delete(l.turns, name)
		free = append(free, name)
	}
	for len(l.freed) > 0 {
		first := l.freed[0]
		if at := first.at.Add(ownLineHas); now.Before(at) {
			next = earlier(next, at)
			break
		}
		l.freed = l.freed[1:]
		if tried, noted := l.tried[first.name]; noted && tried.Before(first.at) {
			delete(l.tried, first.name)
			nobody = append(nobody, first.name)
		}
	}
	if now.Sub(l.tidied) > noteEndures {
		l.tidied = now
		maps.DeleteFunc(l.tried, func(_ string, at time.Time) bool { return now.Sub(at) > noteEndures })
	}
	if len(l.holders) > 0 {
		at := looked.Add(l.lookAfter())
		look = !now.Before(at)
		next = earlier(next, at)
	}
	l.next = next
	return free, nobody, look, max(next.Sub(now), 0)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// look says what it finds out, until ctx ends.
func (s *Store) look(ctx context.Context, say func(store.Event)) {
	looked := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.lookout.bell:
		case <-timer.C:
		}
		began := time.Now()
		free, nobody, look, wait := s.lookout.due(began, looked)
		for _, name := range free {
			say(nameIsFree(name))
		}
		s.withdraw(nobody)
		if look {
			s.lookForHolders(ctx, say)
			looked = time.Now()
		}
		timer.Reset(wait - time.Since(began))
	}
}

func nameIsFree(name string) store.Event {
	return store.Event{Kind: store.EventFree, Lock: store.Lock{Name: name}}
}

// withdrawSQL leaves out what another transaction has in its hands: waiting for it could be mutual.
const withdrawSQL = `WITH mine AS MATERIALIZED (
		SELECT name FROM relukko_go.waiting WHERE server = $1 AND name = ANY ($2) FOR UPDATE SKIP LOCKED)
	DELETE FROM relukko_go.waiting w USING mine WHERE w.name = mine.name AND w.server = $1 RETURNING w.name`

// withdraw deletes the notes about own lines in which nobody seems to be any more, and tells those who leave the names to them. If
// somebody is, he is noted again with his next try.
func (s *Store) withdraw(names []string) {
	if len(names) == 0 {
		return
	}
	var withdrawn []string
	err := s.call(context.Background(), findTimeout, func(ctx context.Context, conn *pgx.Conn) (err error) {
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

// withdrawAll deletes the notes about all own lines.
func (s *Store) withdrawAll() {
	s.lookout.mu.Lock()
	names := slices.Collect(maps.Keys(s.lookout.tried))
	s.lookout.mu.Unlock()
	s.withdraw(names)
}

// lookForHolders says which of the locks that stood in the way are gone.
func (s *Store) lookForHolders(ctx context.Context, say func(store.Event)) {
	s.lookout.mu.Lock()
	holders := maps.Clone(s.lookout.holders)
	s.lookout.mu.Unlock()
	ids := make([]pgtype.UUID, 0, len(holders))
	for id := range holders {
		if key, ok := parseID(id); ok {
			ids = append(ids, key)
		}
	}
	const sql = `SELECT u.id FROM unnest($1::uuid[]) AS u(id) WHERE NOT EXISTS (SELECT FROM relukko_go.locks l WHERE l.id = u.id)`
	var missing []pgtype.UUID
	err := s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) (err error) {
		rows, _ := conn.Query(ctx, sql, ids)
		missing, err = pgx.CollectRows(rows, pgx.RowTo[pgtype.UUID])
		return err
	})
	if err != nil {
		return // next time
	}
	slices.SortFunc(missing, func(a, b pgtype.UUID) int { return slices.Compare(a.Bytes[:], b.Bytes[:]) })
	for _, id := range missing {
		lock := holders[id.String()]
		s.lookout.free(lock)
		if lock.CreatedAt.IsZero() { // no more is known of it than that it was
			say(store.Event{Kind: store.EventMissed})
			continue
		}
		say(store.Event{Kind: store.EventDeleted, Lock: lock})
	}
}
