package pgstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	openTimeout = 10 * time.Second // to connect for the first time and to bring the schema up to date
	callTimeout = 2 * time.Second  // for one call, the wait for a connection included
	findTimeout = time.Second      // to find out what became of a create, beyond that
	listTimeout = 3 * time.Second  // for a list of all locks
)

// Store keeps the locks in PostgreSQL. Make one with Open. Each server needs a Store of its own: a Store does not tell
// of what was done through itself.
type Store struct {
	pool     *pgxpool.Pool
	dial     func() *pgx.ConnConfig // for a connection beside the pool
	id       int64                  // tells this store from those of other servers
	log      *slog.Logger
	notifier notifier
	lookout  lookout

	closed context.Context
	close  context.CancelFunc
	behind sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// Open connects to the database and brings its schema up to date. Ctx bounds this, no more than 10 s; the store itself
// lives until Close. An error that is store.ErrUnavailable may be gone when tried again: the database could not be reached.
//
// The url is what psql takes: postgres://user:password@host:5432/database?sslmode=verify-full, several hosts with commas
// between them, or key=value pairs; PGHOST and the like fill in what it leaves out. Further parameters: pool_max_conns
// (by default 16; two more are opened beside them), connect_timeout (2 s), target_session_attrs (read-write).
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("relukko: the database's URL: %w", err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{log: log}
	var id [8]byte
	rand.Read(id[:]) // never fails
	s.id = int64(binary.BigEndian.Uint64(id[:]))

	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s.dial = prepare(config)
	if err := migrate(ctx, s.dial()); err != nil {
		return nil, classify(err)
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, classify(err)
	}
	s.closed, s.close = context.WithCancel(context.Background())
	s.lookout.init()
	s.notifier.init(s)
	s.behind.Go(s.notifier.run)
	return s, nil
}

// Close ends the store: it tells the other servers what they have not heard yet, if that takes no longer than a second, and
// closes all connections. Calls under way end first; Watch returns.
func (s *Store) Close() error {
	s.withdrawAll()
	s.close()
	s.behind.Wait()
	s.pool.Close()
	return nil
}

// call runs f with a connection, all within the time. The caller's ctx counts until there is a connection: what
// has been sent is left to finish, because giving it up would cost the connection.
func (s *Store) call(ctx context.Context, within time.Duration, f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return classify(&notSentError{err})
	}
	defer conn.Release()
	deadline, _ := ctx.Deadline()
	ctx, cancelCall := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancelCall()
	err = f(ctx, conn.Conn())
	var pg *pgconn.PgError
	if conn.Conn().IsClosed() && !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &pg) && pg.Code == codeReadOnly {
		s.pool.Reset() // what has befallen this connection has most likely befallen the others too
	}
	return classify(err)
}
