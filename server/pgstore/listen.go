package pgstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	setUpTimeout = 5 * time.Second // to connect and to begin to listen
	quietFor     = 3 * time.Second // without a notification, before the connection is tested
	testTimeout  = 2 * time.Second
)

var (
	errClosed = errors.New("relukko: the store is closed")
	errNoEcho = errors.New("relukko: notifications are sent but do not arrive")
)

// Watch implements [store.Store]. When its connection breaks, it connects again, for as long as
// that takes; meanwhile the store checks more often whether locks are gone. There must be only one
// Watch at a time.
func (s *Store) Watch(ctx context.Context, hear func(store.Event)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closed, cancel)()

	events := make(chan store.Event, 64)
	say := func(e store.Event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	wg.Go(func() { s.listen(ctx, say) })
	wg.Go(func() { s.poll(ctx, say) })
	wg.Go(func() { s.keepNotes(ctx) })
	for {
		select {
		case e := <-events:
			hear(e)
		case <-ctx.Done():
			if s.closed.Err() != nil {
				return errClosed
			}
			return ctx.Err()
		}
	}
}

// listen says what the other servers notify, until ctx ends.
func (s *Store) listen(ctx context.Context, say func(store.Event)) {
	for failures := 0; ; failures++ {
		heard, err := s.listenOnce(ctx, say)
		if ctx.Err() != nil {
			return
		}
		if heard {
			failures = 0
			s.pool.Reset() // the idle connections are probably broken as well
		}
		s.makeRoom(err)
		if failures == 0 {
			s.log.Warn("other servers on the same database can't be heard now, polling instead",
				"error", err)
		}
		if !sleep(ctx, backoff(failures)) {
			return
		}
	}
}

// listenOnce listens on one connection until that breaks. It reports whether it began to hear.
func (s *Store) listenOnce(ctx context.Context, say func(store.Event)) (heard bool, err error) {
	conn, err := s.beginToListen(ctx)
	defer closeConn(conn)
	if err != nil {
		return false, err
	}
	s.tracker.setUnheard(false)
	defer s.tracker.setUnheard(true)
	defer s.notifier.heeded.Store(true) // as it is not known any more
	s.log.Info("other servers on the same database are heard")
	say(store.Event{Kind: store.EventMissed})
	for {
		n, err := s.nextNotification(ctx, conn)
		if err != nil {
			return true, err
		}
		sender, events, err := unpack(n.Payload)
		if sender == s.id {
			continue
		}
		s.notifier.heed()
		if err != nil {
			events = append(events, store.Event{Kind: store.EventMissed})
		}
		for _, e := range events {
			if e.Kind == store.EventDeleted {
				s.tracker.free(e.Lock)
			}
			say(e)
		}
	}
}

// beginToListen returns a connection that is known to hear notifications.
func (s *Store) beginToListen(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, s.dial())
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return conn, err
	}
	const presenceSQL = `SELECT pg_advisory_lock_shared($1, $2)`
	if _, err := conn.Exec(ctx, presenceSQL, advisoryClass, presenceKey); err != nil {
		return conn, err
	}
	if err := s.countOthers(ctx, conn); err != nil {
		return conn, err
	}
	// With a pooler another session may be the one that listens. The notification also tells the
	// others that this server listens.
	if _, err := conn.Exec(ctx, notifySQL, channel, pack(s.id, nil)); err != nil {
		return conn, err
	}
	ctx, cancel = context.WithTimeout(ctx, testTimeout)
	defer cancel()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return conn, errors.Join(errNoEcho, err)
		}
		if sender, _, _ := unpack(n.Payload); sender == s.id {
			return conn, nil
		}
		s.notifier.heed()
	}
}

// countOthers finds out whether other servers listen, and notifications make sense. Each holds a
// share of one advisory lock while its session lives. One that comes later sends a notification.
func (s *Store) countOthers(ctx context.Context, conn *pgx.Conn) error {
	const sql = `SELECT count(*) FROM pg_locks
		WHERE locktype = 'advisory' AND classid = $1 AND objid = $2 AND pid <> pg_backend_pid()
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	var others int
	err := conn.QueryRow(ctx, sql, advisoryClass, presenceKey).Scan(&others)
	if err == nil {
		s.notifier.heeded.Store(others > 0)
	}
	return err
}

// nextNotification waits for a notification, and tests the connection while none comes.
func (s *Store) nextNotification(
	ctx context.Context, conn *pgx.Conn,
) (*pgconn.Notification, error) {
	for {
		quiet, cancel := context.WithTimeout(ctx, quietFor)
		n, err := conn.WaitForNotification(quiet)
		cancel()
		if err == nil || ctx.Err() != nil || !pgconn.Timeout(err) {
			return n, err
		}
		test, cancel := context.WithTimeout(ctx, testTimeout)
		err = s.countOthers(test, conn)
		cancel()
		if err != nil {
			return nil, err
		}
	}
}
