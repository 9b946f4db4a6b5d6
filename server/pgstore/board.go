package pgstore

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	beatEvery  = 3 * time.Second // while something is published; 10 s of silence are allowed
	renewEvery = 5               // beats from one renewal of the notes to the next
)

// board is what this server has published.
type board struct {
	mu      sync.Mutex
	waiters string // in JSON; "" while there are none
}

// published is a store.Waiter in the table board. Times are in microseconds since 1970.
type published struct {
	Names    []string `json:"n"`
	Creator  *string  `json:"c,omitempty"`
	IP       string   `json:"p,omitempty"`
	Owner    string   `json:"o,omitempty"`
	Priority int      `json:"y,omitempty"`
	Since    int64    `json:"s"`
	Rank     int64    `json:"r"`
}

// Publish implements [store.Board].
func (s *Store) Publish(ctx context.Context, waiters []store.Waiter) error {
	text := ""
	if len(waiters) > 0 {
		rows := make([]published, len(waiters))
		for i, w := range waiters {
			rows[i] = published{w.Names, w.Creator, w.IP, w.Owner, w.Priority,
				w.Since.UnixMicro(), w.Rank.UnixMicro()}
		}
		all, err := json.Marshal(rows)
		if err != nil {
			return err
		}
		text = string(all)
	}
	s.board.mu.Lock()
	s.board.waiters = text
	s.board.mu.Unlock()
	return s.post(ctx, text)
}

const (
	postSQL = `INSERT INTO relukko_go.board VALUES ($1, $2, clock_timestamp())
		ON CONFLICT (server) DO UPDATE SET waiters = excluded.waiters, heard = excluded.heard`
	unpostSQL = `DELETE FROM relukko_go.board WHERE server = $1`
	beatSQL   = `UPDATE relukko_go.board SET heard = clock_timestamp() WHERE server = $1`
	boardSQL  = `SELECT waiters FROM relukko_go.board
		WHERE server <> $1 AND heard > clock_timestamp() - interval '10 seconds'`
)

// post puts the waiters on the board, or takes this server's off it if there are none.
func (s *Store) post(ctx context.Context, text string) error {
	return s.call(ctx, callTimeout, func(ctx context.Context, conn *pgx.Conn) (err error) {
		if text == "" {
			_, err = conn.Exec(ctx, unpostSQL, s.id)
		} else {
			_, err = conn.Exec(ctx, postSQL, s.id, text)
		}
		return err
	})
}

// Published implements [store.Board].
func (s *Store) Published(ctx context.Context) (waiters []store.Waiter, err error) {
	var texts []string
	err = s.call(ctx, listTimeout, func(ctx context.Context, conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, boardSQL, s.id)
		texts, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, text := range texts {
		var rows []published
		if err := json.Unmarshal([]byte(text), &rows); err != nil {
			return nil, classify(err)
		}
		for _, w := range rows {
			waiters = append(waiters, store.Waiter{
				Names: w.Names, Creator: w.Creator, IP: w.IP, Owner: w.Owner, Priority: w.Priority,
				Since: fromMicro(w.Since), Rank: fromMicro(w.Rank),
			})
		}
	}
	return waiters, nil
}

// takeDown takes what this server has published off the board.
func (s *Store) takeDown() {
	s.board.mu.Lock()
	text := s.board.waiters
	s.board.waiters = ""
	s.board.mu.Unlock()
	if text != "" {
		_ = s.post(context.Background(), "") // otherwise the others ignore it when it is silent
	}
}

// beat renews what this server has in the database while it runs, until ctx ends: what it has
// published, and the notes about its waiters.
func (s *Store) beat(ctx context.Context) {
	for n := 1; sleep(ctx, beatEvery); n++ {
		s.board.mu.Lock()
		text := s.board.waiters
		s.board.mu.Unlock()
		if text != "" {
			s.beatBoard(text)
		}
		if n%renewEvery == 0 {
			s.renewNotes(s.tracker.noted())
		}
	}
}

// beatBoard shows the other servers that this one runs. An error costs nothing: the next beat is
// soon.
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
