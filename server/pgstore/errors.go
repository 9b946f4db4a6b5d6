package pgstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"gitlab.com/relukko/relukko-go/server/store"
)

// SQLSTATEs, and classes of them, that say that the database can't do now what it could do at another time.
var transient = []string{
	"08",    // connection exceptions
	"53",    // insufficient resources: connections, memory, disk
	"57",    // operator intervention: shutting down, starting up, a time-out
	"40",    // rolled back: deadlock and the like
	"55P03", // a lock was not to be had in time
	"25006", // read-only: this one is not the primary any more
}

const (
	codeReadOnly   = "25006"
	codeUnique     = "23505"
	codeCheck      = "23514"
	nameConstraint = "locks_name"
	timeConstraint = "locks_expires_at_in_range"
)

// errReadOnly is what a standby would say to a change.
var errReadOnly = &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: codeReadOnly, Message: "the database takes no changes"}

// notSentError is an error from before anything was sent.
type notSentError struct{ err error }

func (e *notSentError) Error() string { return e.err.Error() }
func (e *notSentError) Unwrap() error { return e.err }

// Is says that it is store.ErrNotDone, too.
func (e *notSentError) Is(target error) bool { return target == store.ErrNotDone }

// classify makes a store.ErrUnavailable of what may be gone when tried again. Other errors stay what they are.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case unavailable(err):
		return fmt.Errorf("%w: PostgreSQL: %w", store.ErrUnavailable, err)
	default:
		return fmt.Errorf("relukko: PostgreSQL: %w", err)
	}
}

func unavailable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		for _, code := range transient {
			if strings.HasPrefix(pg.Code, code) {
				return true
			}
		}
		return false // a wrong password, a missing table …
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) ||
		errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, puddle.ErrClosedPool)
}

// inDoubt tells whether a statement that ended with err may have been carried out all the same.
func inDoubt(err error) bool {
	var notSent *notSentError
	if errors.As(err, &notSent) || pgconn.SafeToRetry(err) || !unavailable(err) {
		return false
	}
	var pg *pgconn.PgError
	return !errors.As(err, &pg) || pg.SeverityUnlocalized != "ERROR" // an ERROR rolls back; a FATAL may come after the commit
}

// violates tells whether err is that the constraint does not hold.
func violates(err error, code, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code && pg.ConstraintName == constraint
}
