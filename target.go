package relukko

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/acquire/either"
	"gitlab.com/relukko/relukko-go/internal/lifecycle"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// target is the lock that a Mutex is for, or the locks of a Pool or a MultiMutex, with the options,
// and the driver that acquires it.
type target struct {
	name string   // of the lock; of a Pool and a MultiMutex: what messages call it
	any  []string // the names of a Pool; else nil
	all  []string // the names of a MultiMutex; else nil
	options
	client  *api.Client
	tasks   *lifecycle.Group
	driver  acquire.Driver
	silence acquire.Silence
	err     error // why every Lock fails: the client, a name or an option is invalid
}

func (t *target) init(client *api.Client, opts []Option) {
	t.client, t.options = client, newOptions(opts)
	if client == nil {
		t.err = errors.New("the client is nil; check the error of api.New or api.FromEnv")
		return
	}
	if t.err = t.checkNames(); t.err == nil {
		t.err = t.complete()
	}
	t.tasks = lifecycle.Of(client)
	t.driver = t.tasks.Shared(func() any { return either.New(client) }).(acquire.Driver)
}

// listed returns what messages call several locks: a list of their names may be long.
func listed(names []string, word string) string {
	if last := len(names) - 1; last > 2 {
		return fmt.Sprintf("%s %s %d others", names[0], word, last)
	}
	return strings.Join(names, ", ")
}

func (t *target) checkNames() error {
	names, kind := t.any, "pool"
	switch {
	case t.all != nil:
		names, kind = t.all, "MultiMutex"
	case t.any == nil:
		return checkText("name", t.name)
	}
	if n := len(names); n == 0 || n > wire.MaxNames {
		return fmt.Errorf("a %s has 1 to %d names, not %d", kind, wire.MaxNames, n)
	}
	for i, name := range names {
		if err := checkText(fmt.Sprintf("name %q", name), name); err != nil {
			return err
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("the name %q is in the %s twice", name, kind)
		}
	}
	if t.handoff {
		return fmt.Errorf("WithHandoff is for a Mutex, not for a %s; omit it", kind)
	}
	return nil
}

// unusable returns the reason for which no Lock can succeed, or nil.
func (t *target) unusable() error {
	if t.err == nil && t.driver == nil {
		return errors.New(
			"this is a zero value; create one with NewMutex, NewPool or NewMultiMutex")
	}
	return t.err
}

// memberOf returns the name of a lock that was granted.
func (t *target) memberOf(g *acquire.Grant) string {
	switch {
	case t.any == nil:
		return t.name
	case t.client.Trusted(): // the lock is made up
		return t.any[0]
	}
	return g.Lock.Name
}

// what returns what the target is, for messages.
func (t *target) what() string {
	switch {
	case t.any != nil:
		return fmt.Sprintf("pool %q", t.name)
	case t.all != nil:
		return fmt.Sprintf("locks %q", t.name)
	}
	return fmt.Sprintf("lock %q", t.name)
}

// lost logs a loss and calls WithOnLost's function.
func (t *target) lost(loss *LostError) {
	t.log.Warn("lock lost",
		"lock", loss.Name, "id", loss.ID, "reason", loss.Reason.String(), "error", loss.Err)
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
	locked, text := &LockedError{Name: t.name, Holder: f.Holder}, f.Text
	switch {
	case t.any == nil && t.all == nil && !waited:
		return locked
	case t.any == nil && t.all == nil:
		return t.errorf(append(f.Errs, locked), "%s; %s", text, locked.who())
	case waited:
	case t.any != nil:
		text = "all of its locks are held"
	default:
		text = "not all of them are free"
	}
	if f.Holder != nil {
		locked.Name = f.Holder.Name
		text += fmt.Sprintf("; %q is %s", locked.Name, locked.who())
	}
	return t.errorf(append(f.Errs, locked), "%s", text)
}

func (t *target) errorf(errs []error, format string, args ...any) error {
	return &opError{t.what(), fmt.Sprintf(format, args...), errs}
}
