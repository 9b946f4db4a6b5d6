package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	postSQL = `INSERT INTO relukko_go.board VALUES ($1, $2, clock_timestamp())
		ON CONFLICT (server) DO UPDATE SET waiters = excluded.waiters, heard = excluded.heard`
	takeDownSQL = `DELETE FROM relukko_go.board WHERE server = $1`
	boardSQL    = `SELECT waiters FROM relukko_go.board
		WHERE server <> $1 AND heard > clock_timestamp() - interval '10 seconds'`
)

// Publish implements [store.Board].
func (s *Store) Publish(ctx context.Context, waiters []store.Waiter) error {
	if len(waiters) == 0 {
		return s.takeDown(ctx)
	}
	text, err := encodeWaiters(waiters)
	if err != nil {
		return err
	}
	s.published.Store(true)
	return s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, postSQL, s.id, text)
		return err
	})
}

// takeDown removes what this server has published.
func (s *Store) takeDown(ctx context.Context) error {
	if !s.published.Swap(false) {
		return nil
	}
	return s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, takeDownSQL, s.id)
		return err
	})
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
