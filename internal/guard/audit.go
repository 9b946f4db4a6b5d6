package guard

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
)

const (
	refusalWindow = time.Minute
	refusalLimit  = 100 // lines in a refusalWindow, for the keys of one name
	maxLogged     = 200 // bytes of a header
)

// Origin is where a request comes from.
type Origin struct {
	IP    string
	Agent string // the header User-Agent
}

// audit writes the audit log. It leaves out refusals of a client that has too many of them, which
// could fill the disk.
type audit struct {
	log *slog.Logger

	mu       sync.Mutex
	refusals map[string]*refusals // by the name of the key
}

// refusals counts the refusals of the keys of one name.
type refusals struct {
	since      time.Time
	n, omitted int
}

// changed writes what another than its owner or holder has done to a lock.
func (a *audit) changed(from *Origin, what, reason string, attrs []slog.Attr) {
	a.write(slog.LevelInfo, what, from, attrs, slog.String("reason", reason))
}

// refused writes that a client may not do something.
func (a *audit) refused(from *Origin, name string, err error, attrs []slog.Attr) {
	ok, omitted := a.allow(name)
	if !ok {
		return
	}
	reason := err.Error()
	if denied, ok := errors.AsType[*access.DeniedError](err); ok {
		reason = denied.Reason
	}
	a.write(slog.LevelWarn, "refused", from, attrs, slog.String("reason", reason),
		slog.Int("omitted", omitted))
}

// allow reports whether a refusal may be written, and how many were left out before it.
func (a *audit) allow(name string) (ok bool, omitted int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refusals == nil {
		a.refusals = make(map[string]*refusals)
	}
	r := a.refusals[name]
	if r == nil {
		r = &refusals{}
		a.refusals[name] = r
	}
	if now := time.Now(); now.Sub(r.since) >= refusalWindow {
		omitted = r.omitted
		*r = refusals{since: now}
	}
	if r.n++; r.n > refusalLimit {
		r.omitted++
		return false, 0
	}
	return true, omitted
}

// wrongKey writes that requests had wrong keys.
func (a *audit) wrongKey(from *Origin, w *wrong) {
	a.write(slog.LevelWarn, "refused: wrong or missing X-API-KEY", from, nil,
		slog.Uint64("wrong_keys", w.total), slog.Uint64("omitted", w.omitted))
}

// signedIn writes that a session on the page has begun.
func (a *audit) signedIn(from *Origin, name string) {
	a.write(slog.LevelInfo, "signed in on the page", from, []slog.Attr{slog.String("key", name)})
}

func (a *audit) write(
	level slog.Level, message string, from *Origin, attrs []slog.Attr, more ...slog.Attr,
) {
	attrs = append(attrs, slog.String("ip", from.IP),
		slog.String("user_agent", wire.Printable(from.Agent, maxLogged)))
	a.log.LogAttrs(context.Background(), level, message, append(attrs, more...)...)
}
