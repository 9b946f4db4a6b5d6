package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/jackc/pgx/v5/pgconn"

	"gitlab.com/relukko/relukko-go/internal/settings"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	memoryStore = "memory"
	boltPrefix  = "bolt:"
)

// closingStore is a store that must be closed.
type closingStore interface {
	store.Store
	io.Closer
}

// storeSpec returns which store to use: that of the flag, of the environment, or
// the default.
func (p *program) storeSpec(flag string) (string, error) {
	if flag != "" {
		bolt := strings.HasPrefix(flag, boltPrefix) && flag != boltPrefix
		if flag == memoryStore || bolt || isPostgres(flag) {
			return flag, nil
		}
		return "", usage("--store is none of bolt:PATH, memory, postgres://…")
	}
	if url := p.getenv(envDatabaseURL); url != "" {
		if !isPostgres(url) {
			return "", usage("%s does not begin with postgres://. "+
				"To use another store, set --store", envDatabaseURL)
		}
		return url, nil
	}
	path := p.stateFile("locks.db")
	if path == "" {
		return "", usage("there is no directory for the locks, as neither HOME nor " +
			envStateDir + " is set: name a store with --store")
	}
	return boltPrefix + path, nil
}

// stateFile returns the path of a file of the server's own: in the directory that systemd has made
// for the service, or else in the user's state directory; "" if there is neither.
func (p *program) stateFile(name string) string {
	if dir, _, _ := strings.Cut(p.getenv(envStateDir), ":"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name)
	}
	return settings.StateFile(p.getenv, name)
}

func isPostgres(spec string) bool {
	return strings.HasPrefix(spec, "postgres://") || strings.HasPrefix(spec, "postgresql://")
}

// showStore returns a spec without its secrets.
func showStore(spec string) string {
	if !isPostgres(spec) {
		return spec
	}
	u, err := url.Parse(spec)
	if err != nil {
		return "postgres"
	}
	return (&url.URL{Scheme: "postgres", Host: u.Host, Path: u.Path}).String()
}

// keyPath returns the file that keeps the key which a server with the store of a
// spec makes for itself: the one beside a database file; "" for none.
func (p *program) keyPath(spec string) string {
	if file, ok := strings.CutPrefix(spec, boltPrefix); ok {
		return file + ".key"
	}
	return p.stateFile("server.key")
}

// openStore opens the store of a spec. It retries for wait while a database is not
// available; when ctx ends it returns its error.
func openStore(
	ctx context.Context, spec string, wait time.Duration, log *slog.Logger,
) (closingStore, error) {
	switch {
	case spec == memoryStore:
		return inMemory{memstore.New()}, nil
	case !isPostgres(spec):
		return boltstore.Open(strings.TrimPrefix(spec, boltPrefix), log)
	}
	end := time.Now().Add(wait)
	waits := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(2*time.Second))
	for waiting := false; ; waiting = true {
		opened, err := pgstore.Open(ctx, spec, log)
		pause := min(waits.NextBackOff(), time.Until(end))
		if err == nil || !errors.Is(err, store.ErrUnavailable) || pause <= 0 {
			return opened, err
		}
		if !waiting {
			log.Warn("the store is not available, retrying", "store", showStore(spec),
				"error", databaseError(err), "for", short(wait))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// databaseError returns what a database, or the network, said. The driver's own text
// has it once for each address and TLS mode that it tried.
func databaseError(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return plain(e)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return network(err)
	}
	return plain(err)
}

type inMemory struct{ *memstore.Store }

func (inMemory) Close() error { return nil }
