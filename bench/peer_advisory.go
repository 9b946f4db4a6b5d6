package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/jackc/pgx/v5"
)

// advisory is pg_advisory_lock, the floor of what a round trip to a queue in a
// server costs. A lock belongs to a connection, so each goroutine has one; the
// statements are prepared by pgx the first time.
var advisory = peer{
	name: "advisory", label: "pg_advisory_lock over pgx", store: "memory",
	notes: []string{"The lock belongs to a connection, so each goroutine needs one, and it is " +
		"lost with the connection; the holder is not told."},
	start: func(s *site) (service, error) {
		url, err := s.database("advisory")
		if err != nil {
			return nil, err
		}
		return &advisoryService{s.postgres, url}, nil
	},
}

type advisoryService struct {
	server *postgres
	url    string
}

func (s *advisoryService) connect(context.Context, bool) (client, error) {
	return &advisoryClient{url: s.url}, nil
}

// requests counts transactions, each of our statements being one.
func (s *advisoryService) requests(ctx context.Context) (float64, error) {
	conn, err := pgx.Connect(ctx, s.server.url("postgres"))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	var n float64
	const query = "SELECT xact_commit + xact_rollback FROM pg_stat_database " +
		"WHERE datname = 'advisory'"
	err = conn.QueryRow(ctx, query).Scan(&n)
	return n, err
}

// pids leaves out what serves other databases.
func (s *advisoryService) pids() []int {
	return slices.DeleteFunc(s.server.process.tree(), func(pid int) bool {
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return bytes.HasPrefix(title, []byte("postgres: "+postgresUser+" ")) &&
			!bytes.Contains(title, []byte(" advisory "))
	})
}

func (s *advisoryService) version() string {
	return "pgx " + moduleVersion("github.com/jackc/pgx/v5") + ", PostgreSQL " + s.server.version
}

func (s *advisoryService) close() error { return nil } // the server is shared

type advisoryClient struct {
	url   string
	conns []*pgx.Conn
}

func (c *advisoryClient) lockers(ctx context.Context, name string, n int) ([]locker, error) {
	return each(n, func() (locker, error) {
		conn, err := c.open(ctx)
		return &advisoryLocker{conn, advisoryKey(name)}, err
	})
}

func (c *advisoryClient) open(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, c.url)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func advisoryKey(name string) int64 {
	hash := fnv.New64a()
	hash.Write([]byte(name))
	return int64(hash.Sum64())
}

// poolLockers implements [poolClient]. There is no queue for several locks, so they are tried again
// and again.
func (c *advisoryClient) poolLockers(ctx context.Context, names []string, n int,
) (all []poolLocker, err error) {
	for range n {
		l := &advisoryPoolLocker{}
		if l.conn, err = c.open(ctx); err != nil {
			return nil, err
		}
		for _, name := range names {
			l.keys = append(l.keys, advisoryKey(name))
		}
		all = append(all, l)
	}
	return all, nil
}

func (c *advisoryClient) close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close(context.Background()))
	}
	return errors.Join(errs...)
}

type advisoryLocker struct {
	conn *pgx.Conn
	key  int64
}

func (l *advisoryLocker) lock(ctx context.Context) error {
	_, err := l.conn.Exec(ctx, "SELECT pg_advisory_lock($1)", l.key)
	return err
}

func (l *advisoryLocker) unlock() error {
	var held bool
	row := l.conn.QueryRow(context.Background(), "SELECT pg_advisory_unlock($1)", l.key)
	if err := row.Scan(&held); err != nil {
		return err
	}
	if !held {
		return fmt.Errorf("lock %d was not held", l.key)
	}
	return nil
}

// advisoryPoolLocker tries all locks, in an order that begins at random, in one statement, and then
// pauses for about as long as a lock is held.
type advisoryPoolLocker struct {
	conn *pgx.Conn
	keys []int64
	held int64
}

func (l *advisoryPoolLocker) lock(ctx context.Context) error {
	const try = "SELECT key FROM unnest($1::bigint[]) AS key " +
		"WHERE pg_try_advisory_lock(key) LIMIT 1"
	for {
		from := rand.IntN(len(l.keys))
		order := slices.Concat(l.keys[from:], l.keys[:from])
		err := l.conn.QueryRow(ctx, try, order).Scan(&l.held)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if err := pause(ctx, poolHold); err != nil {
			return err
		}
	}
}

func (l *advisoryPoolLocker) member() int { return slices.Index(l.keys, l.held) }

func (l *advisoryPoolLocker) unlock() error {
	return (&advisoryLocker{l.conn, l.held}).unlock()
}
