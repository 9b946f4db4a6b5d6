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
	// ErrNotLocked means that Unlock found no lock to release.
	ErrNotLocked = errors.New("relukko: the lock is not held")
	// ErrUnlocked is the cause of a lock's contexts after Unlock.
	ErrUnlocked = errors.New("relukko: the lock was unlocked")
	// ErrHeldTooLong is the cause of a guarded context that [WithMaxHold] has ended. The lock is
	// still held, until Unlock.
	ErrHeldTooLong = errors.New("relukko: the lock is held for too long")
	// ErrNotReleased means that the backend did not confirm a release. As far as is known the lock
	// was held until Unlock. [NotReleasedError] has the details.
	ErrNotReleased = errors.New("relukko: the release was not confirmed")
)

// LockedError is the error for a lock that another holder has. errors.Is matches it with
// [ErrLocked].
type LockedError struct {
	Name   string    // of the lock; of several: of one that is held, or a list if none is known
	Holder *api.Lock // the lock that holds the name; nil if unknown

	// Lost is not nil if a goroutine of this process has lost the lock and has not called Unlock
	// yet, which keeps the others that share the Mutex or Pool out. Holder is nil then.
	Lost *LostError
}

// Error names the lock and its holder.
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

// LossReason says how a lock was lost. The zero LossReason is none of them.
type LossReason int

const (
	// LossDeleted means that the backend no longer has the lock: another client deleted it, or it
	// expired and was swept.
	LossDeleted LossReason = iota + 1
	// LossUnreachable means that no renewal was acknowledged in time, or that the client was closed
	// before Unlock. The backend may still have the lock.
	LossUnreachable
	// LossRefused means that the backend refused a renewal, for example because the key was
	// revoked. The contexts ended before the lease.
	LossRefused
	// LossMaxHold means that the backend did not extend the lease any more, as it bounds how long a
	// lock is held (relukko serve --max-hold).
	LossMaxHold
)

// String returns "deleted", "unreachable", "refused" or "held too long".
func (r LossReason) String() string {
	switch r {
	case LossDeleted:
		return "deleted"
	case LossUnreachable:
		return "unreachable"
	case LossRefused:
		return "refused"
	case LossMaxHold:
		return "held too long"
	}
	return fmt.Sprintf("LossReason(%d)", int(r))
}

// LostError is the error for a lock that was lost. errors.Is matches it with [ErrLockLost], and it
// wraps Err. No other client can hold the lock before Deadline, unless the Reason is LossDeleted.
type LostError struct {
	Name, ID string
	Reason   LossReason
	Deadline time.Time // end of the lease, on the local clock
	Err      error     // the last error of the backend or the network; nil if there was none
}

// Error names the lock, its id, the reason and Err.
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
	case LossMaxHold:
		what = "lost: held for as long as the backend allows (its --max-hold); others may get it " +
			"once its lease has ended, at " + e.Deadline.Format(time.RFC3339)
	}
	if e.Err != nil {
		return fmt.Sprintf("relukko: lock %q (%s): %s: %v", e.Name, e.ID, what, e.Err)
	}
	return fmt.Sprintf("relukko: lock %q (%s): %s", e.Name, e.ID, what)
}

// Is reports whether target is [ErrLockLost].
func (e *LostError) Is(target error) bool { return target == ErrLockLost }

// Unwrap returns Err.
func (e *LostError) Unwrap() error { return e.Err }

// NotReleasedError is the error for a release that the backend did not confirm. The name may stay
// taken until the lease has ended and the backend's grace has passed: a tenth of the lease, at
// least 1 s and at most 10 s, on our own backend, about 3 min on others. errors.Is matches it with
// [ErrNotReleased], and it wraps Err.
type NotReleasedError struct {
	Name, ID string
	Until    time.Time // end of the retries in the background; zero: there are none
	Err      error     // the last error of the backend or the network
}

// Error names the lock, its id, Until and Err.
func (e *NotReleasedError) Error() string {
	what := "not released; it stays taken until its lease and the backend's grace have passed"
	if !e.Until.IsZero() {
		what = "not released yet, retried in the background until " + e.Until.Format(time.RFC3339)
	}
	return fmt.Sprintf("relukko: lock %q (%s): %s: %v", e.Name, e.ID, what, e.Err)
}

// Is reports whether target is [ErrNotReleased].
func (e *NotReleasedError) Is(target error) bool { return target == ErrNotReleased }

// Unwrap returns Err.
func (e *NotReleasedError) Unwrap() error { return e.Err }

// opError is an error about a lock, or a pool. The text says everything; errs are for errors.Is and
// errors.As.
type opError struct {
	what, text string
	errs       []error
}

func (e *opError) Error() string   { return "relukko: " + e.what + ": " + e.text }
func (e *opError) Unwrap() []error { return e.errs }

// heldBy describes the holder in the words of an error; nil is an unknown one.
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
