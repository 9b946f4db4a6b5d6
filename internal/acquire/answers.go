package acquire

import (
	"errors"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Refused reports whether err is a refusal by the backend itself that no later attempt would
// change. A response without the backend's own body is from something on the way, and an outage.
// ErrHeld and ErrGone are not refusals.
func Refused(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Own && !api.Transient(err) &&
		!errors.Is(err, api.ErrHeld) && !errors.Is(err, api.ErrGone)
}

// Final reports whether err is a refusal of a request about a held lock that no later attempt would
// change. A refusal of the API key is none where a function of the client may return another key
// before the lease ends.
func Final(err error) bool { return Refused(err) && !errors.Is(err, wire.ErrKeyMayChange) }
