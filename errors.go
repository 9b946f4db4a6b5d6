package relukko

import (
	"errors"
	"fmt"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

var (
	// ErrLocked says that somebody else holds the lock: it is [api.ErrHeld].
	// [LockedError] has the details.
	ErrLocked = api.ErrHeld
	// ErrLockLost says that a lock was lost while it was held. [LostError] has the details.
	ErrLockLost = errors.New("relukko: the lock was lost")
	// ErrNotLocked says that Unlock found nothing to unlock.
	ErrNotLocked = errors.New("relukko: the lock is not held")
	// ErrUnlocked is the cause of a guarded context after Unlock.
	ErrUnlocked = errors.New("relukko: the lock was unlocked")
	// ErrNotReleased says that the backend did not confirm a release. The lock
	// was held, as far as is known, and may stay taken until its lease and the
	// backend's grace (about 3 min) have passed; until the lease ends the
	// release is tried again behind.
	ErrNotReleased = errors.New("relukko: the release was not confirmed")
)

// LockedError says who holds the lock. errors.Is finds [ErrLocked].
type LockedError struct {
	Name   string
	Holder *api.Lock  // nil where the backend did not say
	Lost   *LostError // a goroutine of this process lost the lock, and has not called Unlock; else nil
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("relukko: lock %q: %s", e.Name, e.who())
}

func (e *LockedError) who() string {
	if e.Lost != nil {
		return fmt.Sprintf("a goroutine of this process has lost it (%s) and has not called Unlock yet", e.Lost.ID)
	}
	return heldBy(e.Holder)
}

// Is reports whether target is [ErrLocked].
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// LossReason says how a lock was lost.
type LossReason int

const (
	// LossDeleted: the backend no longer has the lock. Somebody deleted it, or
	// it expired there.
	LossDeleted LossReason = iota + 1
	// LossUnreachable: no renewal was acknowledged in time, or the client was
	// closed before the lock was unlocked.
	LossUnreachable
	// LossRefused: the backend refused the renewal for good (a revoked key, for
	// example). The lease was still running when the contexts ended.
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

// LostError says how a lock was lost. errors.Is finds [ErrLockLost] and
// whatever Err is.
type LostError struct {
	Name, ID string
	Reason   LossReason
	Deadline time.Time // the end of the lease as it was counted here
	Err      error     // what the backend or the network last said; may be nil
}

func (e *LostError) Error() string {
	what := "lost"
	switch e.Reason {
	case LossDeleted:
		what = "lost: the backend no longer has it (somebody deleted it, or it expired)"
	case LossUnreachable:
		what = "lost: not renewed in time; others may get it once its lease has ended, at " + e.Deadline.Format(time.RFC3339)
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

// NotReleasedError says that the backend did not confirm a release. errors.Is
// finds [ErrNotReleased] and whatever Err is.
type NotReleasedError struct {
	Name, ID string
	Until    time.Time // until then the release is retried in the background; zero: it is not retried
	Err      error     // what the backend or the network last said
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

// opError is a text about one lock with the errors behind it. The text says
// all; the errors are for errors.Is and errors.As.
type opError struct {
	name, text string
	errs       []error
}

func (e *opError) Error() string   { return fmt.Sprintf("relukko: lock %q: %s", e.name, e.text) }
func (e *opError) Unwrap() []error { return e.errs }

// heldBy returns a text that says who holds a lock.
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
	return fmt.Sprintf("held by %s since %s, lock id %s", who, holder.CreatedAt.Format(time.RFC3339), holder.ID)
}
