package relukko

import (
	"errors"
	"fmt"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

var (
	// ErrLocked means that the lock is held. It is the same error as [api.ErrHeld]. [LockedError]
	// has the details.
	ErrLocked = api.ErrHeld
	// ErrLockLost means that the lock was lost while it was held. [LostError] has the details.
	ErrLockLost = errors.New("relukko: the lock was lost")
	// ErrNotLocked means that there was nothing to unlock.
	ErrNotLocked = errors.New("relukko: the lock is not held")
	// ErrUnlocked is the cause of a guarded context after Unlock.
	ErrUnlocked = errors.New("relukko: the lock was unlocked")
	// ErrNotReleased means that the backend did not confirm a release. As far as is known the lock
	// was held until then. [NotReleasedError] has the details.
	ErrNotReleased = errors.New("relukko: the release was not confirmed")
)

// LockedError is the error for a lock that is held. errors.Is matches it with [ErrLocked].
type LockedError struct {
	Name   string
	Holder *api.Lock // the lock that holds the name; nil if unknown

	// Lost is set if a goroutine of this process has lost the lock and has not called Unlock yet.
	// Holder is nil then.
	Lost *LostError
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("relukko: lock %q: %s", e.Name, e.who())
}

func (e *LockedError) who() string {
	if e.Lost != nil {
		return fmt.Sprintf(
			"a goroutine of this process has lost it (%s) and has not called Unlock yet", e.Lost.ID)
	}
	return heldBy(e.Holder)
}

// Is reports whether target is [ErrLocked].
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// LossReason is the way in which a lock was lost.
type LossReason int

const (
	// LossDeleted means that the backend no longer has the lock. Another client deleted it, or it
	// expired.
	LossDeleted LossReason = iota + 1
	// LossUnreachable means that no renewal was acknowledged in time, or that the client was closed
	// before Unlock.
	LossUnreachable
	// LossRefused means that the backend refused the renewal, because of a revoked key, for
	// example. The lease had not ended yet when the contexts ended.
	LossRefused
)

func (r LossReason) String() string {
	switch r {
	case LossDeleted:
		return "deleted"
	case LossUnreachable:
		return "unreachable"
	case LossRefused:
		return "refused"
	}
	return fmt.Sprintf("LossReason(%d)", int(r))
}

// LostError is the error for a lock that was lost. errors.Is matches it with [ErrLockLost], and it
// wraps Err.
type LostError struct {
	Name, ID string
	Reason   LossReason
	Deadline time.Time // when the lease ends, on the local clock
	Err      error     // the last error of the backend or the network; nil if there was none
}

func (e *LostError) Error() string {
	what := "lost"
	switch e.Reason {
	case LossDeleted:
		what = "lost: the backend no longer has it (somebody deleted it, or it expired)"
	case LossUnreachable:
		what = "lost: not renewed in time; others may get it once its lease has ended, at " +
			e.Deadline.Format(time.RFC3339)
	case LossRefused:
		what = "lost: the backend refuses to renew it"
	}
	if e.Err != nil {
		return fmt.Sprintf("relukko: lock %q (%s): %s: %v", e.Name, e.ID, what, e.Err)
	}
	return fmt.Sprintf("relukko: lock %q (%s): %s", e.Name, e.ID, what)
}

// Is reports whether target is [ErrLockLost].
func (e *LostError) Is(target error) bool { return target == ErrLockLost }

func (e *LostError) Unwrap() error { return e.Err }

// NotReleasedError is the error for a release that the backend did not confirm. The name may stay
// taken until the lease and the backend's grace, about 3 min by default, have passed. errors.Is
// matches it with [ErrNotReleased], and it wraps Err.
type NotReleasedError struct {
	Name, ID string
	Until    time.Time // the release is retried in the background until then; zero: not retried
	Err      error     // the last error of the backend or the network
}

func (e *NotReleasedError) Error() string {
	what := "not released; it stays taken until its lease and the backend's grace have passed"
	if !e.Until.IsZero() {
		what = "not released yet, retried in the background until " + e.Until.Format(time.RFC3339)
	}
	return fmt.Sprintf("relukko: lock %q (%s): %s: %v", e.Name, e.ID, what, e.Err)
}

// Is reports whether target is [ErrNotReleased].
func (e *NotReleasedError) Is(target error) bool { return target == ErrNotReleased }

func (e *NotReleasedError) Unwrap() error { return e.Err }

// opError is an error about one lock. The text says everything; errs are for errors.Is and
// errors.As.
type opError struct {
	name, text string
	errs       []error
}

func (e *opError) Error() string   { return fmt.Sprintf("relukko: lock %q: %s", e.name, e.text) }
func (e *opError) Unwrap() []error { return e.errs }

// heldBy returns a text about the holder of a lock.
func heldBy(holder *api.Lock) string {
	if holder == nil {
		return "held by somebody else"
	}
	who := "somebody who gave no name"
	if creator, _, _ := wire.CutMark(holder.Creator); creator != "" {
		who = creator
	}
	if holder.IP != "" {
		who += " (" + holder.IP + ")"
	}
	return fmt.Sprintf("held by %s since %s, lock id %s",
		who, holder.CreatedAt.Format(time.RFC3339), holder.ID)
}
