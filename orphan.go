package relukko

import (
	"context"
	"errors"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

// orphanAfter is how long a create without an answer is looked after: a lock
// that it made has expired by then (10 min, and about 3 min of grace).
const orphanAfter = 15 * time.Minute

// proxyTime is how long a proxy answers by itself while its backend restarts,
// as far as it matters: then marks are looked for, which waits for the backend.
const proxyTime = 10 * time.Second

// lookAgain is when a mark is looked for where the backend cannot call it off,
// counted from when the last request that bore it ended.
var lookAgain = [...]time.Duration{0, time.Second, 5 * time.Second}

// cleanUp sees to it that nothing is left of an acquisition that gave up: a
// create may be under way, or may have been carried out though its answer was
// lost. It takes as long as the backend cannot be reached, at most orphanAfter,
// and then takes the task off the account.
func (a *acquisition) cleanUp() {
	defer a.task.Done()
	ctx, cancel := context.WithTimeout(a.task.Context(a.parent), orphanAfter)
	defer cancel()
	if a.flight != nil {
		defer a.cancel()
	}
	offered, err := a.callOff(ctx)
	if err == nil && !offered {
		err = a.seekOut(ctx)
	}
	if err != nil {
		a.m.log.Error("a lock may be left on the backend until it expires", "lock", a.m.name, "creator", a.creator, "error", err)
	}
}

// callOff asks the backend to call the mark off. It returns false where the
// backend has no such thing, or something before it does not let it through: at
// once where it was never said to have it, else after proxyTime, since a proxy
// may answer while the backend restarts. When it returns true, nothing is left,
// and no straggler will be let in.
func (a *acquisition) callOff(ctx context.Context) (offered bool, err error) {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	if a.flight != nil {
		a.flight = a.stopWhenNeverSent(a.flight, stop)
	}
	began, known, listed := time.Now(), a.m.client.CanCallOff(), false
	for {
		limited, cancel := context.WithTimeout(asking, proxyTime)
		err := a.m.client.CallOff(limited, a.mark())
		passing := api.Transient(err) || limited.Err() != nil
		cancel()
		var e *api.Error
		switch {
		case err == nil:
			if a.flight != nil {
				a.cancel()
				<-a.flight
			}
			return true, nil
		case ctx.Err() != nil:
			return false, err
		case asking.Err() != nil:
			return true, nil
		case passing:
			// Where a List is answered, and this again is not, it is not the
			// backend that is away.
			if listed {
				return false, nil
			}
			if time.Since(began) > proxyTime {
				limited, cancel := context.WithTimeout(asking, proxyTime)
				_, err := a.m.client.List(limited)
				cancel()
				listed = err == nil
			}
		case !errors.As(err, &e):
			return false, err
		case !known || refused(err) || time.Since(began) > proxyTime:
			return false, nil // a gateway may refuse what it does not know: whether the key is good a List tells
		}
		sleep(asking, time.Second)
	}
}

// stopWhenNeverSent passes on the outcome of a create, and calls stop when it
// was never sent and no other create is left to be called off.
func (a *acquisition) stopWhenNeverSent(flight <-chan created, stop func()) chan created {
	landed := make(chan created, 1)
	alone := a.lost == 0
	go func() {
		r := <-flight
		if r.err != nil && api.NoEffect(r.err) && alone {
			stop()
		}
		landed <- r
	}()
	return landed
}

// seekOut lets a create that is under way finish and deletes what it made;
// where its connection broke, and for any other create without an answer, it
// looks for the mark.
func (a *acquisition) seekOut(ctx context.Context) error {
	if a.flight != nil {
		r := <-a.flight
		switch {
		case r.err == nil:
			if err := a.m.delete(ctx, r.lock.ID); err != nil && !errors.Is(err, api.ErrGone) {
				return err
			}
		case !api.NoEffect(r.err):
			a.lose(r.sent)
		}
	}
	if a.lost == 0 {
		return nil
	}
	began := time.Now()
	for _, after := range lookAgain {
		if !sleep(ctx, time.Until(began.Add(after))) {
			return context.Cause(ctx)
		}
		var locks []api.Lock
		err := untilAnswered(ctx, refused, func() (err error) {
			locks, err = a.m.client.List(ctx)
			return err
		})
		if err != nil {
			return err
		}
		for i := range locks {
			if !a.owns(&locks[i]) {
				continue
			}
			if err := a.m.delete(ctx, locks[i].ID); err != nil && !errors.Is(err, api.ErrGone) {
				return err
			}
			if a.lost--; a.lost == 0 {
				return nil
			}
		}
	}
	return nil
}

// untilAnswered repeats f, which retries for a while by itself, until it
// succeeds or fails for good, or ctx ends.
func untilAnswered(ctx context.Context, final func(error) bool, f func() error) error {
	for {
		err := f()
		if err == nil || final(err) || !sleep(ctx, time.Second) {
			return err
		}
	}
}
