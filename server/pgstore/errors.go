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

// transient has the SQLSTATEs, and classes of them, that say that the database may be able to do it
// later.
var transient = []string{
	"08",    // connection exceptions
	"53",    // insufficient resources: connections, memory, disk
	"57",    // operator intervention: shutting down, starting up, a time-out
	"40",    // rolled back: deadlock and the like
	"55P03", // a lock was not free in time
	"25006", // read-only: this one is not the primary any more
}

const (
	codeDeadlock     = "40P01"
	codeReadOnly     = "25006"
	codeTooManyConns = "53300"
	codeUnique       = "23505"
	codeCheck        = "23514"
	nameConstraint   = "locks_name"
	timeConstraint   = "locks_expires_at_in_range"
)

// errReadOnly is what a standby returns for a change.
var errReadOnly = &pgconn.PgError{
	Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: codeReadOnly,
	Message: "the database takes no changes",
}

// notSentError is an error from before anything was sent.
type notSentError struct{ err error }

func (e *notSentError) Error() string { return e.err.Error() }
func (e *notSentError) Unwrap() error { return e.err }

// Is reports whether target is store.ErrNotDone.
func (e *notSentError) Is(target error) bool { return target == store.ErrNotDone }

// classify returns an error that is store.ErrUnavailable for what may succeed later.
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
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, puddle.ErrClosedPool)
}

// unknownOutcome reports whether a statement that ended with err may have been carried out.
func unknownOutcome(err error) bool {
	var notSent *notSentError
	if errors.As(err, &notSent) || pgconn.SafeToRetry(err) || !unavailable(err) {
		return false
	}
	return !rolledBack(err)
}

// rolledBack reports whether err is one with which PostgreSQL has rolled the transaction back.
func rolledBack(err error) bool {
	var pg *pgconn.PgError
	// An ERROR rolls back. A FATAL may come after the commit.
	return errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR"
}

// hasCode reports whether err has that SQLSTATE.
func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// violates reports whether err is a violation of the constraint.
func violates(err error, code, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code && pg.ConstraintName == constraint
}
