package main

import (
	"context"
	"log/slog"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/pgstore"
)

func openBolt(path string, log *slog.Logger) (closingStore, error) {
	return boltstore.Open(path, log)
}

func openPostgres(ctx context.Context, url string, log *slog.Logger) (closingStore, error) {
	return pgstore.Open(ctx, url, log)
}
