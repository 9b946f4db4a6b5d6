package relukko

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"gitlab.com/relukko/relukko-go/api"
)

// Locker returns m as a [sync.Locker], for code that takes one.
//
// Its Lock retries until it holds, logging each minute (to the logger of
// [WithLogger], or else to [slog.Default]); it panics only where no waiting
// helps: an unusable name or option, a backend that refuses, a closed client.
// Its Unlock panics when nothing is held. There is no context that a loss could
// end: it reaches [WithOnLost]'s function, and Unlock after it does not panic.
func (m *Mutex) Locker() sync.Locker { return locker{m} }

type locker struct{ m *Mutex }

func (l locker) Lock() {
	for {
		_, err := l.m.acquire(context.Background(), false, l.log())
		if err == nil {
			return
		}
		if !api.Transient(err) {
			panic(err)
		}
		l.log().Warn("lock not acquired, trying on", "lock", l.m.name, "error", err)
	}
}

func (l locker) Unlock() {
	err := l.m.Unlock(context.Background())
	switch {
	case errors.Is(err, ErrNotLocked):
		panic(err)
	case errors.Is(err, ErrNotReleased):
		l.log().Warn("lock not released yet", "lock", l.m.name, "error", err)
	}
}

func (l locker) log() *slog.Logger {
	if l.m.log.Handler() == slog.DiscardHandler {
		return slog.Default()
	}
	return l.m.log
}
