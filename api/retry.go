package api

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// do makes the attempts of k.
func (c *Client) do(ctx context.Context, k *call) error {
	if err := c.begin(k); err != nil {
		return &failure{op: k.op(), err: err, notSent: true}
	}
	defer c.under.End(k)
	if c.trusted {
		k.trust()
		return nil
	}
	if k.bad != nil {
		return &failure{op: k.op(), err: k.bad, notSent: true}
	}
	begin := time.Now()
	err := c.attempt(ctx, k, &k.first)
	if err == nil || k.once || !Transient(err) {
		return err
	}
	return c.retry(ctx, k, begin, err)
}

// retry repeats k, whose first attempt began at begin and failed with err,
// until it succeeds, fails for good or runs out of time.
func (c *Client) retry(ctx context.Context, k *call, begin time.Time, err error) error {
	end, hasEnd := ctx.Deadline()
	if !hasEnd {
		end = begin.Add(retryTime)
	}
	waits := retryWaits()
	maybe := false // an attempt so far may have done what was asked
	for {
		maybe = maybe || mayHaveDone(err)
		wait := waits.NextBackOff()
		if e, ok := errors.AsType[*Error](err); ok {
			wait = max(wait, e.RetryAfter)
		}
		if wait >= time.Until(end) {
			return err
		}
		if stop := c.sleep(ctx, wait); stop != nil {
			return &failure{op: k.op(), err: &endedError{stop, err}, notSent: !maybe}
		}
		before := err
		c.log.LogAttrs(ctx, slog.LevelDebug, "relukko: retrying",
			slog.Any("err", err), slog.Duration("after", wait))
		if err = c.attempt(ctx, k, new(attempt)); err == nil {
			return nil
		}
		noteEarlier(err, maybe)
		if f, ok := err.(*failure); ok && !f.transient && ctx.Err() != nil {
			f.err = &endedError{f.err, before}
		}
		if !Transient(err) {
			return err
		}
	}
}

// noteEarlier notes in the error of an attempt whether an earlier one may have
// been carried out.
func noteEarlier(err error, maybe bool) {
	switch e := err.(type) {
	case *Error:
		e.MaybeDone = e.MaybeDone || maybe
	case *failure:
		e.notSent = e.notSent && !maybe
	}
}

// mayHaveDone reports whether the attempt that failed with err may have been
// carried out.
func mayHaveDone(err error) bool {
	if e, ok := err.(*Error); ok {
		return e.MaybeDone || failedStatus(e.Status)
	}
	return !NoEffect(err)
}

// retryWaits are 50 ms, 100 ms, … 2 s, each up to a half shorter or longer, but
// never above 2 s.
func retryWaits() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxInterval(2*time.Second*2/3),
		backoff.WithMaxElapsedTime(0),
	)
}
