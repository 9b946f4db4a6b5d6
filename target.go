package relukko

import (
	"errors"
	"fmt"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/acquire/either"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
)

// target is the lock that a Mutex is for, its options, and the driver that acquires it.
type target struct {
	name string
	options
	client  *api.Client
	tasks   *lifecycle.Group
	driver  acquire.Driver
	silence acquire.Silence
	err     error // why every Lock fails: the client, the name or an option is invalid
}

func (t *target) init(client *api.Client, name string, opts []Option) {
	t.client, t.name, t.options = client, name, newOptions(opts)
	if client == nil {
		t.err = errors.New("the client is nil; check the error of api.New or api.FromEnv")
		return
	}
	t.err = t.check(name)
	t.tasks = lifecycle.Of(client)
	t.driver = t.tasks.Shared(func() any { return either.New(client) }).(acquire.Driver)
}

// unusable returns the reason for which no Lock can succeed, or nil.
func (t *target) unusable() error {
	if t.err == nil && t.driver == nil {
		return errors.New("this is the zero Mutex; create one with NewMutex")
	}
	return t.err
}

// lost logs a loss and calls WithOnLost's function.
func (t *target) lost(loss *LostError) {
	t.log.Warn("lock lost",
		"lock", t.name, "id", loss.ID, "reason", loss.Reason.String(), "error", loss.Err)
	if t.onLost != nil {
		go t.onLost(loss)
	}
}

// failed returns the error for a request that the driver could not grant.
func (t *target) failed(err error, waited bool) error {
	f, ok := errors.AsType[*acquire.Failure](err)
	if !ok {
		return t.errorf([]error{err}, "%v", err)
	}
	if !f.Held {
		return t.errorf(f.Errs, "%s", f.Text)
	}
	locked := &LockedError{Name: t.name, Holder: f.Holder}
	if !waited {
		return locked
	}
	return t.errorf(append(f.Errs, locked), "%s; %s", f.Text, locked.who())
}

func (t *target) errorf(errs []error, format string, args ...any) error {
	return &opError{t.name, fmt.Sprintf(format, args...), errs}
}
