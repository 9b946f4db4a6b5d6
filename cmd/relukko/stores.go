package main

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	memoryStore = "memory"
	boltPrefix  = "bolt:"
)

// closingStore is a store that is to be closed.
type closingStore interface {
	store.Store
	io.Closer
}

// checkStore finds fault with a --store.
func checkStore(what, spec string) error {
	if spec == memoryStore || isPostgres(spec) || strings.HasPrefix(spec, boltPrefix) && spec != boltPrefix {
		return nil
	}
	return usage("%s is none of bolt:PATH, memory, postgres://…", what)
}

func isPostgres(spec string) bool {
	return strings.HasPrefix(spec, "postgres://") || strings.HasPrefix(spec, "postgresql://")
}

// showStore is a spec without what is secret in it.
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

// defaultStorePath is where the locks are kept when nothing else is said.
func defaultStorePath() (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) { // the specification has it that others are ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", usage("there is no place to keep the locks (%v): say where, with --store", err)
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "relukko", "locks.db"), nil
}

// openStore opens the store that spec names.
func openStore(ctx context.Context, spec string, log *slog.Logger) (closingStore, error) {
	switch {
	case spec == memoryStore:
		return keptInMemory{memstore.New()}, nil
	case isPostgres(spec):
		return openPostgres(ctx, spec, log)
	}
	return openBolt(strings.TrimPrefix(spec, boltPrefix), log)
}

type keptInMemory struct{ *memstore.Store }

func (keptInMemory) Close() error { return nil }
