package pgstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/semaphore"
)

const (
	maxConns    = 16                    // of the pool
	besides     = 2                     // connections beside the pool: one listens, one notifies
	retireFor   = 10 * time.Second      // a connection that the database has refused
	refusedWait = 50 * time.Millisecond // until the next try when not even one is allowed
	callTimeout = 2 * time.Second       // for one call, including the wait for a connection
	findTimeout = time.Second           // to find out what became of a create, after that
	listTimeout = 3 * time.Second       // for a list of all locks
)

// database is the connections to the database.
type database struct {
	pool *pgxpool.Pool
	dial func() *pgx.ConnConfig // for a connection beside the pool
	id   int64                  // identifies this server among those that share the database
	log  *slog.Logger

	// slots are the connections that calls may use at a time, retired of which are not used now
	// because the database has refused them.
	slots   *semaphore.Weighted
	retired atomic.Int32
	lists   *semaphore.Weighted // the calls that may read lists at a time: a quarter of the slots

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
	d.dial = prepare(config, join)
	limit, err := setUp(ctx, d.dial)
	if err != nil {
		return err
	}
	config.MaxConns = max(1, min(config.MaxConns, limit-besides))
	d.slots = semaphore.NewWeighted(int64(config.MaxConns))
	d.lists = semaphore.NewWeighted(int64(max(1, config.MaxConns/4)))
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
	conn, release, err := d.acquire(ctx)
	if err != nil {
		return classify(&notSentError{err})
	}
	defer release()
	deadline, _ := ctx.Deadline()
	ctx, cancelCall := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancelCall()
	err = f(ctx, conn.Conn())
	broken := conn.Conn().IsClosed() && !errors.Is(err, context.DeadlineExceeded)
	if broken || hasCode(err, codeReadOnly) {
		d.pool.Reset() // the other connections are probably broken as well
	}
	return classify(err)
}

// callList is call for lists, which take long: they leave most of the connections to others.
func (d *database) callList(
	ctx context.Context, f func(context.Context, *pgx.Conn) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if err := d.lists.Acquire(ctx, 1); err != nil {
		return classify(&notSentError{err})
	}
	defer d.lists.Release(1)
	return d.call(ctx, listTimeout, f)
}

// acquire returns a connection of the pool. Where the database refuses more of them, as for a role
// with a limit that other servers use too, it waits for one that is free.
func (d *database) acquire(ctx context.Context) (conn *pgxpool.Conn, release func(), err error) {
	var refused error
	for {
		if err := d.slots.Acquire(ctx, 1); err != nil {
			return nil, nil, errors.Join(err, refused)
		}
		conn, err := d.pool.Acquire(ctx)
		if err == nil {
			return conn, func() { conn.Release(); d.slots.Release(1) }, nil
		}
		if refused = err; !hasCode(err, codeTooManyConns) {
			d.slots.Release(1)
			return nil, nil, err
		}
		if !d.retire() {
			d.slots.Release(1)
			sleep(ctx, refusedWait)
		}
	}
}

// retire takes the caller's slot out of use for a while, unless it is the last one.
func (d *database) retire() bool {
	if d.retired.Add(1) >= d.pool.Config().MaxConns {
		d.retired.Add(-1)
		return false
	}
	time.AfterFunc(retireFor, func() {
		d.retired.Add(-1)
		d.slots.Release(1)
	})
	return true
}

// makeRoom closes idle connections of the pool after the database has refused one beside it.
func (d *database) makeRoom(err error) {
	if hasCode(err, codeTooManyConns) {
		if d.slots.TryAcquire(1) && !d.retire() {
			d.slots.Release(1)
		}
		d.pool.Reset()
	}
}
