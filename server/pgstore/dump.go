package pgstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	// A reader that does not go on for so long has given up.
	patientSQL = `SELECT set_config('statement_timeout', '0', true),
		set_config('idle_in_transaction_session_timeout', '1min', true)`
	headSQL = `SELECT clock_timestamp(),
		coalesce(pg_sequence_last_value('relukko_go.tokens'), 0)`
	recordsSQL = `SELECT ` + fields + `, coalesce(mark, ''), lease, waited FROM relukko_go.locks
		ORDER BY token`
	marksSQL = `SELECT owner, mark, until FROM relukko_go.marks
		WHERE cancelled ORDER BY until`
	wholeHistorySQL = endedSQL + ` ORDER BY ended_at, n`
)

// Dump implements [store.Dumper], in one transaction on a connection of its own. While it lasts,
// autovacuum removes no row that was deleted since it began.
func (s *Store) Dump(ctx context.Context, use func(*store.Content) error) error {
	conn, err := pgx.ConnectConfig(ctx, s.dial())
	if err != nil {
		return classify(&notSentError{err})
	}
	defer closeConn(conn)
	return dump(ctx, conn, use)
}

// Dump calls use with what the store in the database has, and returns an error of its own or that
// of use. No server may use the store meanwhile: Dump returns an error if one does. The url is as
// for Open.
func Dump(ctx context.Context, url string, use func(*store.Content) error) error {
	return alone(ctx, url, func(conn *pgx.Conn) error {
		version, err := currentVersion(ctx, conn)
		switch {
		case err != nil:
			return classify(err)
		case version == 0:
			return errors.New("relukko: PostgreSQL: there is no store in this database: " +
				"it has no schema relukko_go")
		}
		if err := migrate(ctx, conn); err != nil {
			return classify(err)
		}
		return dump(ctx, conn, use)
	})
}

func dump(ctx context.Context, conn *pgx.Conn, use func(*store.Content) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{
		IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly,
	})
	if err != nil {
		return classify(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	c, err := content(ctx, tx)
	if err != nil {
		return classify(err)
	}
	return use(c)
}

// content reads all but the history, which it reads when it is asked to.
func content(ctx context.Context, tx pgx.Tx) (*store.Content, error) {
	if _, err := tx.Exec(ctx, patientSQL); err != nil {
		return nil, err
	}
	c := new(store.Content)
	var token int64
	if err := tx.QueryRow(ctx, headSQL).Scan(&c.At, &token); err != nil {
		return nil, err
	}
	c.At, c.Token = c.At.UTC().Truncate(time.Microsecond), uint64(token)
	rows, _ := tx.Query(ctx, recordsSQL) // its error comes with the rows
	var r row
	var lease *time.Duration
	record := store.Record{}
	_, err := pgx.ForEachRow(rows, append(r.fields(), &record.Mark, &lease, &record.Waited),
		func() error {
			record.Lock, record.Leased, record.Lease = r.lock(), lease != nil, 0
			if lease != nil {
				record.Lease = *lease
			}
			c.Locks = append(c.Locks, record)
			return nil
		})
	if err != nil {
		return nil, err
	}
	rows, _ = tx.Query(ctx, marksSQL)
	var m store.Mark
	var until pgtype.Timestamptz
	_, err = pgx.ForEachRow(rows, []any{&m.Owner, &m.Mark, &until}, func() error {
		m.Until = until.Time.UTC()
		c.Marks = append(c.Marks, m)
		return nil
	})
	c.History = func(yield func(store.Ended, error) bool) { yieldEnded(ctx, tx, yield) }
	return c, err
}

// errEnough ends a query whose rows are not wanted any more.
var errEnough = errors.New("enough")

// yieldEnded yields the history, the oldest first.
func yieldEnded(ctx context.Context, tx pgx.Tx, yield func(store.Ended, error) bool) {
	rows, _ := tx.Query(ctx, wholeHistorySQL)
	var r endedRow
	_, err := pgx.ForEachRow(rows, r.fields(), func() error {
		if !yield(r.ended(), nil) {
			return errEnough
		}
		return nil
	})
	if err != nil && err != errEnough {
		yield(store.Ended{}, classify(err))
	}
}
