package pgstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	maxConns    = 16
	callTimeout = 2 * time.Second // for one call, including the wait for a connection
	findTimeout = time.Second     // to find out what became of a create, after that
	listTimeout = 3 * time.Second // for a list of all locks
)

// database is the connections to the database.
type database struct {
	pool *pgxpool.Pool
	dial func() *pgx.ConnConfig // for a connection beside the pool
	id   int64                  // identifies this server among those that share the database
	log  *slog.Logger

	closed context.Context
	close  context.CancelFunc
}

// connect opens the pool, and brings the schema up to date.
func (d *database) connect(ctx context.Context, url string, log *slog.Logger) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("the database's URL: %w", err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	var id [8]byte
	rand.Read(id[:]) // never fails
	d.id = int64(binary.BigEndian.Uint64(id[:]))
	d.log = log
	d.dial = prepare(config)
	if err := migrate(ctx, d.dial()); err != nil {
		return err
	}
	if d.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	d.closed, d.close = context.WithCancel(context.Background())
	return nil
}

// call runs f with a connection, all within the time. The caller's ctx counts until there is a
// connection. A statement that was sent is left to finish, because giving it up would cost the
// connection.
func (d *database) call(
	ctx context.Context, within time.Duration, f func(context.Context, *pgx.Conn) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return classify(&notSentError{err})
	}
	defer conn.Release()
	deadline, _ := ctx.Deadline()
	ctx, cancelCall := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancelCall()
	err = f(ctx, conn.Conn())
	broken := conn.Conn().IsClosed() && !errors.Is(err, context.DeadlineExceeded)
	var pg *pgconn.PgError
	if broken || errors.As(err, &pg) && pg.Code == codeReadOnly {
		d.pool.Reset() // the other connections are probably broken as well
	}
	return classify(err)
}
