package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

type kind int

const (
	isLock   kind = iota // about the lock id; the answer is that lock
	isCreate             // the answer is a lock of that name
	isList               // the answer is an array of locks; only those of that name count
	isHealth             // the answer may be anything
	isReport             // the answer is for report
)

const (
	attemptTime = 5 * time.Second  // one attempt, from dialing to the last byte of the answer
	listTime    = 60 * time.Second // of a List, whose answer may be large
	retryTime   = time.Minute      // all attempts of a call whose context has no deadline
	maxWait     = wire.MaxWait

	maxAnswer      = 1 << 20  // bytes
	maxListAnswer  = 64 << 20 // bytes
	maxErrorAnswer = 64 << 10 // bytes that are read of a body that comes with an error
)

// CallOption changes one call of a [Client].
type CallOption func(*call)

// Wait lets a [Client.Create] queue on the backend for up to d while the name is held. d is rounded
// up to whole seconds and limited to 30 s; 0 or less means not to queue. A backend without a queue
// responds immediately; see [Client.MaxWait]. Wait has no effect on other calls.
func Wait(d time.Duration) CallOption {
	return func(k *call) {
		if k.kind == isCreate {
			seconds := (min(d, maxWait) + time.Second - 1) / time.Second
			k.wait = max(seconds, 0) * time.Second
		}
	}
}

// Lease makes the lock of a [Client.Create] expire d after its creation. Our own backend then
// deletes it soon after its lease has ended. d must be from 0.5 s to 365 days, or Lease
// has no effect. It has none on other calls either, and on other backends: ExpiresAt of the lock
// says what counts.
func Lease(d time.Duration) CallOption {
	return func(k *call) {
		if k.kind == isCreate && wire.MinLease <= d && d <= wire.MaxLease {
			k.lease = d
		}
	}
}

// Once limits a call to one attempt. If its context has a deadline, the attempt may last until
// then; otherwise at most 5 s (60 s for List, Find, History and Waiting).
func Once() CallOption {
	return func(k *call) { k.once, k.unhurried = true, true }
}

// Reason tells the backend why a person deletes a lock that others may hold. Our own backend then
// has the lock as broken in its history, with the reason, which may be "". It has no effect on
// other calls.
func Reason(text string) CallOption {
	return func(k *call) {
		if k.method == http.MethodDelete && k.kind == isLock {
			k.reason = &text
		}
	}
}

// ByMark says that a [Client.Delete] comes from the holder of the lock: mark is at the end of its
// creator. If something on the way repeats the request, our own backend then gives the second the
// response of the first. An invalid mark is ignored. ByMark has no effect on other calls.
func ByMark(mark string) CallOption {
	return func(k *call) {
		if k.method == http.MethodDelete && k.kind == isLock && wire.ValidMark(mark) {
			k.mark = mark
		}
	}
}

// FreshConn makes each attempt on a new connection, which is closed afterwards. Use it if the kept
// connections may be dead; they are not closed.
func FreshConn() CallOption {
	return func(k *call) { k.fresh = true }
}

// call is one call of a public method, with all its attempts.
type call struct {
	verb, id, name string // what is asked, of what: one of id and name, or none
	kind           kind
	method, path   string     // the path after the id; of isReport, all of it
	query          url.Values // of isReport
	report         func(body []byte) error
	copy           func(body io.Reader) error // the answer, however long it is, instead of report
	once           bool                       // there is no second attempt
	unhurried      bool                       // an attempt may take until the context's deadline
	mark           string                     // of the lock, from its holder
	reason         *string                    // of a delete; nil: it is no break
	fresh          bool                       // each attempt takes a connection of its own
	wait           time.Duration              // of a create, in the backend's queue
	lease          time.Duration              // of a create; 0: the backend's
	body           []byte                     // does not change once the first attempt has begun
	creator        string
	like           wire.Lock // what the answer will resemble
	bad            error     // why k cannot be asked

	lock Lock // the answer
	list []Lock

	mu        sync.Mutex
	cancel    context.CancelFunc // of the attempt under way
	abandoned bool               // by Shutdown

	first  attempt
	buffer [192]byte // of body, where it fits
}

// apply applies the caller's options.
func (k *call) apply(opts []CallOption) {
	for _, opt := range opts {
		opt(k)
	}
}

// op returns what is asked, for errors.
func (k *call) op() string {
	switch {
	case k.name != "":
		return k.verb + " " + strconv.Quote(k.name)
	case k.kind == isLock:
		if _, ok := wire.ParseID(k.id); !ok {
			return k.verb + " " + strconv.Quote(wire.Printable(k.id, 64))
		}
		return k.verb + " " + k.id
	}
	return k.verb
}

// limits returns the time and the size of one attempt.
func (k *call) limits() (time.Duration, int) {
	if k.kind == isList || k.kind == isReport {
		return listTime, maxListAnswer
	}
	return attemptTime + k.wait, maxAnswer
}

func (k *call) newBody() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(k.body)), nil
}

// attempt is one request, and what is known of its way.
type attempt struct {
	old  *credentials // refused: the request goes out only with others
	sent *credentials // that it went out with; nil where it has not come that far

	stall   *time.Timer // ends the attempt, of which nothing comes any more; nil: ctx decides
	stalled atomic.Bool // by stall

	trace  httptrace.ClientTrace
	asked  atomic.Bool  // for a connection
	conns  atomic.Int32 // that it got
	reused atomic.Bool  // the last of them had been kept
	body   bytes.Reader
}

// notSent reports whether there certainly never was a connection, so that no
// byte can have been written. A transport that is not our own may not tell of
// its connections at all.
func (a *attempt) notSent(own bool) bool {
	return a.sent == nil || (own || a.asked.Load()) && a.conns.Load() == 0
}

// repeated reports whether the request may have been carried out more than
// once, so that an answer may be about its own effect. Our own transport takes
// a second connection only if it wrote nothing to the first one. One that was
// given may do anything, also if it tells of no connection.
func (a *attempt) repeated(own bool) bool { return !own && a.conns.Load() != 1 }
