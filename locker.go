package relukko

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

// Locker returns m as a [sync.Locker], for code that takes one.
//
// Its Lock retries until it holds, logging each minute (to the logger of
// [WithLogger], or else to [slog.Default]); it panics only where no waiting
// helps: an unusable name or option, a backend that refuses, a certificate that
// is not trusted, a closed client. Its Unlock panics when nothing is held. There
// is no context that a loss could end: it reaches [WithOnLost]'s function, and
// Unlock after it does not panic.
func (m *Mutex) Locker() sync.Locker { return locker{m} }

type locker struct{ m *Mutex }

const lockerPause = 2 * time.Second // between two Locks, at least

func (l locker) Lock() {
	var logged time.Time
	for {
		_, err := l.m.acquire(context.Background(), true, l.log())
		if err == nil {
			return
		}
		if l.hopeless(err) {
			panic(err)
		}
		if time.Since(logged) > 50*time.Second {
			l.log().Warn("lock not acquired, still trying", "lock", l.m.name, "error", err)
			logged = time.Now()
		}
		pause := lockerPause
		var e *api.Error
		if errors.As(err, &e) {
			pause = max(pause, min(e.RetryAfter, time.Minute))
		}
		time.Sleep(pause)
	}
}

// hopeless reports whether another Lock would fail in the same way.
func (l locker) hopeless(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return l.m.unusable() != nil || errors.Is(err, api.ErrRefused) || errors.Is(err, api.ErrClosed) || errors.As(err, &untrusted)
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
	if l.m.log == nil || l.m.log.Handler() == slog.DiscardHandler {
		return slog.Default()
	}
	return l.m.log
}
