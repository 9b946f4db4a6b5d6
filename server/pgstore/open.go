package pgstore

import (
	"context"
	"log/slog"
	"time"
)

const openTimeout = 10 * time.Second // to connect and to bring the schema up to date

// Open connects to the database and brings its schema up to date. Ctx bounds that, and so do 10 s;
// the store lives until Close. The store logs to log when it cannot hear the other servers, and
// when it can again; with nil it is silent. An error that is store.ErrUnavailable may be gone when
// Open is called again: the database could not be reached.
//
// The url is what psql takes: postgres://user:password@host:5432/database?sslmode=verify-full,
// several hosts separated by commas, or key=value pairs; PGHOST and the like fill in what it leaves
// out. Further parameters: pool_max_conns (default 16; two more connections are opened beside the
// pool), connect_timeout (2 s), target_session_attrs (read-write).
func Open(ctx context.Context, url string, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := new(Store)
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := s.connect(ctx, url, log); err != nil {
		return nil, classify(err)
	}
	s.changes.init(&s.database)
	s.tracker.init()
	s.notifier.init(&s.database)
	s.background.Go(s.notifier.run)
	return s, nil
}

// Close ends the store. It tells the other servers what they have not heard yet, for at most 1 s,
// and closes all connections. Calls under way end first. Watch returns.
func (s *Store) Close() error {
	s.withdraw(s.tracker.noted())
	_ = s.takeDown(context.Background()) // otherwise the others ignore it soon
	s.close()
	s.background.Wait()
	s.pool.Close()
	return nil
}
