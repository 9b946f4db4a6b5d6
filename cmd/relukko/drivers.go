package main

import (
	"context"
	"errors"
	"log/slog"
)

func openBolt(path string, log *slog.Logger) (closingStore, error) {
	return nil, errors.New("not yet")
}

func openPostgres(ctx context.Context, url string, log *slog.Logger) (closingStore, error) {
	return nil, errors.New("not yet")
}
