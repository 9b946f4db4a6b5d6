package httpapi

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	maxBody    = 64 << 10
	defaultTTL = 5 * time.Minute // of keep_alive and add_to_expire_at without seconds
)

// requestError is an error in a request that has a status of its own.
type requestError struct {
	status  int
	message string
}

func (e *requestError) Error() string { return "relukko: " + e.message }

func readCreate(w http.ResponseWriter, r *http.Request) (string, *string, error) {
	body, err := readBody(w, r)
	if err != nil {
		return "", nil, err
	}
	return wire.DecodeCreate(body)
}

func readUpdate(w http.ResponseWriter, r *http.Request) (store.Change, error) {
	body, err := readBody(w, r)
	if err != nil {
		return store.Change{}, err
	}
	u, err := wire.DecodeUpdate(body)
	return store.Change{Creator: u.Creator, ExpiresAt: u.ExpiresAt}, err
}

// readSeconds returns the seconds in the body of a PUT, or those that every GET asks for.
func readSeconds(w http.ResponseWriter, r *http.Request) (time.Duration, error) {
	if r.Method == http.MethodGet {
		return defaultTTL, nil
	}
	body, err := readBody(w, r)
	if err != nil {
		return 0, err
	}
	return wire.DecodeSeconds(body)
}

// readBody reads the body to its end: only then does net/http notice that the client goes away.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &tooLarge):
		return nil, &requestError{http.StatusRequestEntityTooLarge,
			"the body is larger than 64 KiB"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &requestError{http.StatusRequestTimeout, "the body did not arrive in time"}
	default:
		return nil, &requestError{http.StatusBadRequest, "the body is cut short"}
	}
}
