package acquire

import (
	"errors"

	"gitlab.com/relukko/relukko-go/api"
)

// Refused reports whether err is the backend's own refusal, which no later
// attempt would change. An answer without the backend's own body comes from
// something on the way, and is an outage like any other. That the lock is held
// or gone is no refusal either.
func Refused(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Own && !api.Transient(err) &&
		!errors.Is(err, api.ErrHeld) && !errors.Is(err, api.ErrGone)
}
