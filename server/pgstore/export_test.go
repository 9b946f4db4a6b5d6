package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/relukko/relukko-go/server/store"
)

const MaxPayload = maxPayload

var (
	Pack   = pack
	Unpack = unpack
)

// Listens tells whether notifications are heard right now.
func (s *Store) Listens() bool {
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	return !s.tracker.unheard
}

// Heeded tells whether the store thinks that somebody listens to it.
func (s *Store) Heeded() bool { return s.notifier.heeded.Load() }

// Setting answers one of PostgreSQL's settings, as it is for this store's calls.
func (s *Store) Setting(name string) (value string, err error) {
	err = s.call(context.Background(), callTimeout,
		func(ctx context.Context, conn *pgx.Conn) error {
			return conn.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
		})
	return value, err
}

// WithConn runs f with a connection as the store's calls have it.
func (s *Store) WithConn(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	return s.call(ctx, callTimeout, f)
}

// Tell notifies the other servers of anything.
func (s *Store) Tell(e store.Event) { s.notifier.add(e) }

// Statements are those that must not read more rows than they are about, with arguments.
func Statements(name string, id pgtype.UUID) map[string][]any {
	return map[string][]any{
		getSQL:    {id},
		holderSQL: {name},
		deleteSQL: {id, "released\ndefault\n"},
		updateSQL: {id, nil, nil, nil, time.Second, time.Hour},
		nextSQL:   {time.Minute, time.Hour, sweepPause},
	}
}

// Version1 makes the schema of version 1, Version2 that of version 2 from it.
var Version1, Version2 = version1, version2

// RenewNotes renews the notes about the waiters of this store.
func (s *Store) RenewNotes() { s.renewNotes(s.tracker.noted()) }

// MaxConns returns how many connections calls may use at a time.
func (s *Store) MaxConns() int { return int(s.pool.Config().MaxConns) }

// Hold keeps all changes waiting until release is called. Waiting returns how many do.
func (s *Store) Hold() (waiting func() int, release func()) {
	g := &s.changes
	g.mu.Lock()
	defer g.mu.Unlock()
	g.underWay += maxUnderWay
	waiting = func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.waiting)
	}
	release = func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for range maxUnderWay {
			g.next()
		}
	}
	return waiting, release
}
