package pgstore

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

// pruneBatch is the number of entries that one sweep removes at most.
const pruneBatch = 2000

// endOfTime is after all times that a store has.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// KeepHistory implements [store.Store]. Sweeps remove what is too old or too much.
func (s *Store) KeepHistory(limits store.HistoryLimits) { s.keep.Store(&limits) }

// limits returns what is kept of the history: nothing at first.
func (s *Store) limits() store.HistoryLimits {
	if l := s.keep.Load(); l != nil && !l.None() {
		return *l
	}
	return store.HistoryLimits{}
}

// endingText returns what deleteSQL takes: see note_ended.
func (s *Store) endingText(end store.Ending) string {
	if s.limits().None() {
		return "-"
	}
	return end.How.String() + "\n" + oneLine.Replace(end.By) + "\n" + noNul.Replace(end.Reason)
}

var (
	noNul   = strings.NewReplacer("\x00", "") // which PostgreSQL's texts cannot have
	oneLine = strings.NewReplacer("\x00", "", "\n", " ")
)

// History implements [store.Store].
func (s *Store) History(ctx context.Context, q store.HistoryQuery) (
	found []store.Ended, err error,
) {
	found = []store.Ended{}
	limits := s.limits()
	if limits.None() || noNul.Replace(q.Name) != q.Name || !utf8.ValidString(q.Name) {
		return found, nil
	}
	if q.Until.IsZero() {
		q.Until = endOfTime
	}
	sql, args := historyAllSQL, []any{q.Since, limits.Age, q.Until, q.Limit}
	if q.Name != "" {
		sql, args = historyOfNameSQL, append(args, q.Name)
	}
	err = s.callList(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, sql, args...) // its error comes with the rows
		var r endedRow
		_, err := pgx.ForEachRow(rows, r.fields(), func() error {
			found = append(found, r.ended())
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}
