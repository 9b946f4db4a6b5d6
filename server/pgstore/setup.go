package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// echoTimeout bounds the time until a notification arrives.
const echoTimeout = 3 * time.Second

var errNoListen = errors.New("LISTEN does not work on this connection: a notification that was " +
	"sent did not arrive. If there is a pooler before PostgreSQL, set it to session mode " +
	"(PgBouncer: pool_mode = session), or connect to PostgreSQL itself")

// setUp checks that the database can be used and brings its schema up to date. It returns how many
// connections the role may have.
func setUp(ctx context.Context, dial func() *pgx.ConnConfig) (limit int32, err error) {
	conn, err := pgx.ConnectConfig(ctx, dial())
	if err != nil {
		return 0, err
	}
	defer closeConn(conn)
	if err := checkListen(ctx, conn, dial()); err != nil {
		return 0, err
	}
	if err := migrate(ctx, conn); err != nil {
		return 0, err
	}
	return connectionLimit(ctx, conn)
}

// checkListen returns an error unless notifications reach conn. They are sent on a connection of
// their own: a pooler in transaction mode passes on those that a session sends to itself.
func checkListen(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig) error {
	channel := fmt.Sprintf("relukko_go_%d", time.Now().UnixNano())
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return fmt.Errorf("LISTEN: %w", err)
	}
	sender, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer closeConn(sender)
	if _, err := sender.Exec(ctx, `SELECT pg_notify($1, '')`, channel); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, echoTimeout)
	defer cancel()
	_, err = conn.WaitForNotification(wait)
	switch {
	case err == nil:
		_, err = conn.Exec(ctx, `UNLISTEN *`)
		return err
	case wait.Err() == nil || ctx.Err() != nil:
		return err
	}
	if err := conn.Ping(ctx); err != nil {
		return err // the connection broke
	}
	return errNoListen
}

// connectionLimit returns how many connections the role may have to the database.
func connectionLimit(ctx context.Context, conn *pgx.Conn) (int32, error) {
	const sql = `SELECT least(
		(SELECT nullif(rolconnlimit, -1) FROM pg_roles
			WHERE rolname = session_user AND NOT rolsuper),
		(SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
		current_setting('max_connections')::int
			- current_setting('superuser_reserved_connections')::int)`
	limit := int32(math.MaxInt32)
	err := conn.QueryRow(ctx, sql).Scan(&limit)
	return limit, err
}
