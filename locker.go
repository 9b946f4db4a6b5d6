package relukko

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// Locker returns m as a [sync.Locker], for code that requires one. It logs to the logger of
// [WithLogger], or else to [slog.Default].
//
// Its Lock retries until it holds the lock, and logs a warning about once a minute. It panics if a
// retry cannot help: the client, the name or an option is invalid, the backend refuses
// ([api.ErrRefused]), its certificate does not verify, or the client is closed.
//
// Its Unlock releases the lock that m holds. It panics if m holds none, and logs a warning if the
// release is not confirmed.
//
// The loss of the lock ends no context and makes nothing panic; [WithOnLost] reports it.
func (m *Mutex) Locker() sync.Locker { return locker{m} }

type locker struct{ m *Mutex }

const lockerPause = 2 * time.Second // at least, between two calls of Mutex.acquire

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

// hopeless reports whether every further attempt would fail in the same way.
func (l locker) hopeless(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return l.m.unusable() != nil || acquire.Refused(err) ||
		errors.Is(err, api.ErrClosed) || errors.As(err, &untrusted)
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
