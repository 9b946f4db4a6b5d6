// Package reply says how the server's results go over the wire, over HTTP and the stream alike: a
// lock, and for each error the status and the message.
package reply

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Lock returns the lock as it goes over the wire.
func Lock(l *store.Lock) wire.Lock {
	return wire.Lock{
		ID: l.ID, Name: l.Name, Creator: l.Creator, IP: l.IP, Owner: l.Owner,
		ExpiresAt: l.ExpiresAt, CreatedAt: l.CreatedAt, UpdatedAt: l.UpdatedAt,
		FencingToken: l.FencingToken,
	}
}

// Ended returns the entry of the history as it goes over the wire. The creator is without the mark
// at its end, which is of no use any more.
func Ended(e *store.Ended) wire.Ended {
	out := wire.Ended{
		ID: e.ID, Name: e.Name, IP: e.IP, Owner: e.Owner, FencingToken: e.FencingToken,
		ExpiresAt: e.ExpiresAt, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
		EndedAt: e.At, Ended: e.How.String(), EndedBy: e.By, Reason: e.Reason,
		Waited: e.Waited.Seconds(),
	}
	if e.Creator != nil {
		creator, _, _ := wire.CutMark(*e.Creator)
		out.Creator = &creator
	}
	return out
}

// LockOrNil returns the lock as it goes over the wire; nil for nil, and for the zero Lock.
func LockOrNil(l *store.Lock) *wire.Lock {
	if l == nil || l.ID == "" {
		return nil
	}
	out := Lock(l)
	return &out
}

// Refusal is the end of a request that failed.
type Refusal struct {
	Status  int
	Message string
	Later   bool       // the client should send the request again after a second
	Level   slog.Level // at which the server logs it; [Unlogged] for most
}

// Unlogged is the Level of a Refusal that is the client's own business.
const Unlogged = slog.LevelDebug

// refusals has the refusal of each error. The first that errors.Is finds counts. A message says at
// its %s what the request was about, or else at its beginning.
var refusals = []struct {
	err error
	Refusal
}{
	{guard.ErrWrongKey, Refusal{Status: http.StatusForbidden, Message: "wrong or missing " +
		"X-API-KEY"}}, // as the original has it
	{guard.ErrKeyGone, Refusal{Status: http.StatusUnauthorized, Message: "this X-API-KEY is not " +
		"valid any more"}},
	{store.ErrGone, Refusal{Status: http.StatusNotFound, Message: "there is no %s: " +
		"it was released or has expired"}},
	{store.ErrHeld, Refusal{Status: http.StatusConflict, Message: "%s is held"}},
	{store.ErrCancelled, Refusal{Status: http.StatusGone, Message: "the acquire of %s was " +
		"cancelled: acquire with a new mark"}},
	{store.ErrSuperseded, Refusal{Status: http.StatusConflict, Message: "the acquire of %s was " +
		"continued on another connection"}},
	{engine.ErrMarkInUse, Refusal{Status: http.StatusConflict, Message: "the mark of the acquire " +
		"of %s is in use for other names on this connection: acquire with a new mark"}},
	{store.ErrTooManyMarks, Refusal{Status: http.StatusServiceUnavailable, Message: "%s: this " +
		"key's name has cancelled too many acquires in the last 10 min: try again later",
		Later: true}},
	{store.ErrOutOfRange, Refusal{Status: http.StatusBadRequest, Message: "expires_at would lie " +
		"outside of the years 1 to 9999"}},
	{engine.ErrFull, Refusal{Status: http.StatusServiceUnavailable, Message: "%s: too many " +
		"requests wait on this server (--max-waiters): try again later", Later: true}},
	{engine.ErrTooManyOpen, Refusal{Status: http.StatusTooManyRequests, Message: "%s: too many " +
		"acquires are open with keys of this name (--max-acquires): try again later", Later: true}},
	{guard.ErrTooManyRequests, Refusal{Status: http.StatusTooManyRequests, Message: "too many " +
		"requests in a second with keys of this name (--max-requests): try again later",
		Later: true}},
	{engine.ErrNoDump, Refusal{Status: http.StatusNotImplemented,
		Message: "the store of this server cannot be backed up"}},
	{engine.ErrClosing, Refusal{Status: http.StatusServiceUnavailable,
		Message: "the server is shutting down"}},
	{store.ErrUnavailable, Refusal{Status: http.StatusServiceUnavailable,
		Message: "the store is unavailable: try again", Later: true, Level: slog.LevelWarn}},
}

// Refuse returns the refusal for err. About is what the request was about, in words like those of
// [Name] and [ID].
func Refuse(err error, about string) Refusal {
	if bad, ok := errors.AsType[*wire.RequestError](err); ok {
		return Refusal{Status: http.StatusBadRequest, Message: bad.Message, Level: Unlogged}
	}
	if denied, ok := errors.AsType[*access.DeniedError](err); ok {
		return Refusal{Status: http.StatusForbidden, Message: denied.Reason, Level: Unlogged}
	}
	r := Refusal{
		Status: http.StatusInternalServerError, Message: "internal error: see the server's log",
		Level: slog.LevelError,
	}
	for i := range refusals {
		if errors.Is(err, refusals[i].err) {
			r = refusals[i].Refusal
			break
		}
	}
	if r.Level == 0 {
		r.Level = Unlogged
	}
	before, after, found := strings.Cut(r.Message, "%s")
	switch {
	case found:
		r.Message = before + about + after
	case about != "":
		r.Message = about + ": " + r.Message
	}
	return r
}

// Name says in a message which lock a request was about: that of the name.
func Name(name string) string { return "lock " + strconv.Quote(name) }

// Names is [Name] for a lock of any of the names.
func Names(names []string) string {
	switch len(names) {
	case 0:
		return "no lock"
	case 1:
		return Name(names[0])
	}
	return fmt.Sprintf("%s (or of %d other names)", Name(names[0]), len(names)-1)
}

// ID says in a message which lock a request was about: that with the id.
func ID(id string) string { return "lock with the id " + id }
