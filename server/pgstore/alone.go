package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// leaveTime is how long the connections of a server that has just ended may take to be gone.
const leaveTime = 2 * time.Second

var errInUse = errors.New("relukko: PostgreSQL: a server is using the store in this database: " +
	"stop all of them first")

// alone calls f with a connection to the database while no server uses the store. Servers that
// begin to, meanwhile, find it unavailable.
func alone(ctx context.Context, url string, f func(*pgx.Conn) error) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("relukko: PostgreSQL: the database's URL: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, prepare(config, "")())
	if err != nil {
		return classify(err)
	}
	defer closeConn(conn)
	const trySQL = `SELECT pg_try_advisory_lock($1, $2)`
	for end := time.Now().Add(leaveTime); ; {
		var free bool
		err := conn.QueryRow(ctx, trySQL, advisoryClass, usersKey).Scan(&free)
		switch {
		case err != nil:
			return classify(err)
		case free:
			// The end of a connection takes a moment: a server that starts now need not wait.
			defer conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock_all()`)
			return f(conn)
		case time.Now().After(end):
			return errInUse
		}
		if !sleep(ctx, refusedWait) {
			return ctx.Err()
		}
	}
}
