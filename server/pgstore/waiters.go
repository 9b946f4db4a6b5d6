package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	beatEvery  = 3 * time.Second // the others ignore what is published after 10 s of silence
	renewEvery = 5               // beats from one renewal of the notes to the next
)

const (
	postSQL = `INSERT INTO relukko_go.board VALUES ($1, $2, clock_timestamp())
		ON CONFLICT (server) DO UPDATE SET waiters = excluded.waiters, heard = excluded.heard`
	takeDownSQL = `DELETE FROM relukko_go.board WHERE server = $1`
	beatSQL     = `UPDATE relukko_go.board SET heard = clock_timestamp() WHERE server = $1`
	boardSQL    = `SELECT waiters FROM relukko_go.board
		WHERE server <> $1 AND heard > clock_timestamp() - interval '10 seconds'`
)

// Publish implements [store.Board]. While Watch runs, what is published stays visible.
func (s *Store) Publish(ctx context.Context, waiters []store.Waiter) error {
	text, err := encodeWaiters(waiters)
	if err != nil {
		return err
	}
	s.board.set(text)
	return s.post(ctx, text)
}

// Published implements [store.Board].
func (s *Store) Published(ctx context.Context) (waiters []store.Waiter, err error) {
	var texts []string
	err = s.call(ctx, listTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, boardSQL, s.id) // its error comes with the rows
		texts, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	for _, text := range texts {
		some, err := decodeWaiters(text)
		if err != nil {
			return nil, classify(err)
		}
		waiters = append(waiters, some...)
	}
	return waiters, err
}

// post shows the waiters to the other servers; "" is none.
func (s *Store) post(ctx context.Context, text string) error {
	return s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) (err error) {
		if text == "" {
			_, err = conn.Exec(ctx, takeDownSQL, s.id)
		} else {
			_, err = conn.Exec(ctx, postSQL, s.id, text)
		}
		return err
	})
}

// takeDown removes what this server has published. If that fails, the others ignore it soon.
func (s *Store) takeDown() {
	if s.board.set("") != "" {
		_ = s.post(context.Background(), "")
	}
}

// beat renews what this server has in the database while it runs, until ctx ends: what it has
// published, and the notes about its waiters. After an error the next beat is soon.
func (s *Store) beat(ctx context.Context) {
	for n := 1; sleep(ctx, beatEvery); n++ {
		if text := s.board.get(); text != "" {
			s.beatBoard(text)
		}
		if n%renewEvery == 0 {
			s.renewNotes(s.tracker.noted())
		}
	}
}

func (s *Store) beatBoard(text string) {
	missing := false
	err := s.call(context.Background(), callTimeout,
		func(ctx context.Context, conn *pgx.Conn) error {
			tag, err := conn.Exec(ctx, beatSQL, s.id)
			missing = tag.RowsAffected() == 0
			return err
		})
	if err == nil && missing { // it was silent, or the database has crashed
		_ = s.post(context.Background(), text)
	}
}
