package cli

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/pgstore"
)

const (
	memoryStore = "memory"
	boltPrefix  = "bolt:"
)

// closingStore is a store that must be closed.
type closingStore interface {
	server.Store
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
	path, err := p.defaultStorePath()
	return boltPrefix + path, err
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

// defaultStorePath returns the file in the user's state directory.
func (p *program) defaultStorePath() (string, error) {
	dir := p.getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) { // the specification says to ignore others
		home := p.getenv("HOME")
		if home == "" {
			var err error
			if home, err = os.UserHomeDir(); err != nil {
				return "", usage("there is no directory for the locks (%v): "+
					"name a store with --store", err)
			}
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "relukko", "locks.db"), nil
}

// openStore opens the store of a spec.
func openStore(ctx context.Context, spec string, log *slog.Logger) (closingStore, error) {
	switch {
	case spec == memoryStore:
		return inMemory{server.NewMemoryStore()}, nil
	case isPostgres(spec):
		return pgstore.Open(ctx, spec, pgstore.WithLogger(log))
	}
	return boltstore.Open(strings.TrimPrefix(spec, boltPrefix), boltstore.WithLogger(log))
}

type inMemory struct{ *server.MemoryStore }

func (inMemory) Close() error { return nil }
