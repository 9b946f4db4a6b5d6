package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// attempt makes one attempt of k: one request, and a second one where the
// backend refused the API key of the first and there is another key by now.
// Its errors are *Error and *failure.
func (c *Client) attempt(ctx context.Context, k *call, a *attempt) error {
	err := c.request(ctx, k, a)
	e, ok := err.(*Error)
	if !ok || !e.refusesKey() || k.kind == isHealth || !c.transport().keys.change() {
		return err
	}
	e.mayChange = true
	again := c.request(ctx, k, &attempt{old: a.sent})
	switch refused := again.(type) {
	case *failure:
		if refused.err == errSameKey {
			return err
		}
	case *Error:
		refused.mayChange = true
	}
	return again
}

// request sends k once and checks the answer. Its errors are those of attempt.
func (c *Client) request(ctx context.Context, k *call, a *attempt) error {
	if ctx.Err() != nil {
		return &failure{op: k.op(), err: over(ctx), notSent: true}
	}
	t := c.transport()
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	allowed := t.allowed(ctx, k)
	if allowed > 0 {
		a.stall = time.AfterFunc(allowed, func() { a.stalled.Store(true); cancel() })
		defer a.stall.Stop()
	}
	if err := k.attempting(cancel); err != nil {
		return &failure{op: k.op(), err: err, notSent: true}
	}
	err := c.exchange(bounded, k, a)
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		e.MaybeDone = k.method != http.MethodGet && a.repeated(t.own)
		return e
	}
	f := &failure{op: k.op(), notSent: a.notSent(t.own)}
	switch {
	case ctx.Err() != nil:
		f.err = over(ctx)
	case a.stalled.Load():
		f.err, f.transient = attemptTimeout(allowed), true
	case bounded.Err() != nil: // by Close
		f.err = ErrClosed
	case a.sent == nil: // no key
		f.err, f.transient = err, a.old != nil
		if f.err != errSameKey {
			f.err = t.cleanError(err)
		}
	default:
		f.err, f.transient = t.cleanError(explain(err)), !unverified(err)
	}
	return f
}

// allowed returns the time that one attempt of k may take, or each piece of a copy; 0 if ctx alone
// decides.
func (t *transport) allowed(ctx context.Context, k *call) time.Duration {
	allowed, _ := k.limits()
	if k.copy != nil {
		return allowed
	}
	if _, ok := ctx.Deadline(); ok && k.unhurried {
		allowed = 0
	}
	if t.limit > 0 && (allowed == 0 || t.limit < allowed-k.wait) {
		allowed = t.limit + k.wait
	}
	return allowed
}

// exchange sends k and reads the answer. Its errors are *Error, and whatever
// keeps it from getting a whole answer.
func (c *Client) exchange(ctx context.Context, k *call, a *attempt) error {
	t := c.transport()
	creds := t.keys.none
	if k.kind != isHealth {
		var err error
		if creds, err = t.keys.get(ctx, a.old); err != nil {
			return err
		}
	}
	a.sent = creds
	resp, err := t.exchange(t.request(ctx, k, a), a, k.fresh)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	ok := resp.StatusCode/100 == 2
	if k.kind == isCreate && (ok || resp.StatusCode == http.StatusConflict) {
		c.maxWait.Store(int64(wire.ParseWait(resp.Header.Get(wire.HeaderWait))))
	}
	if ok {
		err = t.accept(k, a, resp)
	} else {
		err = t.refusal(k, resp)
	}
	if _, ok := err.(*Error); err != nil && !ok {
		return fmt.Errorf("the answer (%d) broke off: %w", resp.StatusCode, err)
	}
	return err
}
