package pgstore

import (
	"context"
	"errors"
	"iter"

	"github.com/jackc/pgx/v5"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	anythingSQL = `SELECT EXISTS (SELECT FROM relukko_go.locks)
		OR EXISTS (SELECT FROM relukko_go.history) OR EXISTS (SELECT FROM relukko_go.marks
			WHERE cancelled AND until > clock_timestamp())`
	clearMarksSQL = `DELETE FROM relukko_go.marks` // claims of servers that have ended
	raiseTokenSQL = `SELECT setval('relukko_go.tokens',
		greatest(nextval('relukko_go.tokens'), $1))`
)

var errNotEmpty = errors.New("relukko: PostgreSQL: the store in this database is not empty, and " +
	"was left as it is: give another database, or DROP SCHEMA relukko_go CASCADE in this one")

// Load puts the content into the store in the database, which must be empty, or not be there: all
// of it, or nothing. No server may use the store meanwhile: Load returns an error if one does. The
// url is as for Open.
func Load(ctx context.Context, url string, c *store.Content) error {
	return alone(ctx, url, func(conn *pgx.Conn) error {
		if err := migrate(ctx, conn); err != nil {
			return classify(err)
		}
		tx, err := conn.Begin(ctx)
		if err != nil {
			return classify(err)
		}
		defer tx.Rollback(context.WithoutCancel(ctx))
		if err := load(ctx, tx, c); err != nil {
			return err
		}
		return classify(tx.Commit(ctx))
	})
}

func load(ctx context.Context, tx pgx.Tx, c *store.Content) error {
	if _, err := tx.Exec(ctx, patientSQL); err != nil {
		return classify(err)
	}
	var anything bool
	if err := tx.QueryRow(ctx, anythingSQL).Scan(&anything); err != nil {
		return classify(err)
	}
	if anything {
		return errNotEmpty
	}
	if _, err := tx.Exec(ctx, clearMarksSQL); err != nil {
		return classify(err)
	}
	if _, err := tx.Exec(ctx, raiseTokenSQL, int64(c.Token)); err != nil {
		return classify(err)
	}
	for _, table := range []struct {
		name    string
		columns []string
		rows    iter.Seq2[[]any, error]
	}{
		{"locks", append(columns, "mark", "lease", "waited"), lockRows(c)},
		{"marks", []string{"owner", "mark", "claim", "cancelled", "until"}, markRows(c)},
		{"history", append(columns, "ended_at", "how", "by_key", "reason", "waited"),
			historyRows(c)},
	} {
		if err := copyRows(ctx, tx, table.name, table.columns, table.rows); err != nil {
			return err
		}
	}
	return nil
}

// columns are those of a lock, in the order of valuesOf.
var columns = []string{
	"id", "name", "creator", "ip", "expires_at", "created_at", "updated_at", "token", "owner",
}

func valuesOf(l *store.Lock, more ...any) []any {
	var id any = l.ID // not a UUID: PostgreSQL says so
	if key, ok := parseID(l.ID); ok {
		id = key
	}
	return append([]any{
		id, l.Name, l.Creator, l.IP, l.ExpiresAt, l.CreatedAt, l.UpdatedAt,
		int64(l.FencingToken), l.Owner,
	}, more...)
}

func lockRows(c *store.Content) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		for i := range c.Locks {
			r := &c.Locks[i]
			var mark, lease any
			if r.Mark != "" {
				mark = r.Mark
			}
			if r.Leased {
				lease = r.Lease
			}
			if !yield(valuesOf(&r.Lock, mark, lease, r.Waited), nil) {
				return
			}
		}
	}
}

func markRows(c *store.Content) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		for _, m := range c.Marks {
			if !yield([]any{m.Owner, m.Mark, int64(0), true, m.Until}, nil) {
				return
			}
		}
	}
}

func historyRows(c *store.Content) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		for e, err := range c.History {
			row := valuesOf(&e.Lock, e.At, e.How.String(), oneLine.Replace(e.By),
				noNul.Replace(e.Reason), e.Waited)
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// copyRows adds rows to a table. An error of the rows is returned as it is.
func copyRows(
	ctx context.Context, tx pgx.Tx, table string, columns []string, rows iter.Seq2[[]any, error],
) error {
	next, stop := iter.Pull2(rows)
	defer stop()
	var failed error
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"relukko_go", table}, columns,
		pgx.CopyFromFunc(func() ([]any, error) {
			row, err, more := next()
			if !more {
				return nil, nil
			}
			failed = err
			return row, err
		}))
	if failed != nil {
		return failed
	}
	return classify(err)
}
