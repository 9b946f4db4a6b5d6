package stream

import (
	"fmt"
	"time"

	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// orphanTime is how long an orphan is cancelled over the stream before it is cleaned up otherwise.
const orphanTime = 10 * time.Second

// orphan is an acquire that was sent, but whose call has ended. It is cancelled on each connection
// until the server has confirmed that there is no lock of its mark and never will be. It is a task
// of the client, and a durable request of the stream.
type orphan struct {
	*stream
	r    *acquire.Request
	mark string

	// stream.mu guards the following.
	over  bool
	timer *time.Timer // ends the attempts over the stream
}

// start begins to cancel. The caller holds s.mu, and calls flush of the link that start returns, if
// any. The call must still be a task of the client.
func (o *orphan) start() *link {
	if o.tasks.Continue(o) != nil {
		return nil // Shutdown has abandoned the client's tasks, and its error names them
	}
	if o.away || o.closed {
		o.over = true
		go o.otherwise()
		return nil
	}
	o.timer = time.AfterFunc(orphanTime, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.absent()
	})
	return o.join(o)
}

// Describe implements [lifecycle.Job].
func (o *orphan) Describe() string {
	return fmt.Sprintf("lock %q: the cleanup of a Lock that gave up", o.r.Name)
}

// Abandon implements [lifecycle.Job].
func (o *orphan) Abandon() {
	o.mu.Lock()
	ended := o.end()
	o.mu.Unlock()
	if ended {
		o.tasks.End(o)
	}
}

// end ends the attempts over the stream, and reports whether they had not ended. The caller holds
// o.mu.
func (o *orphan) end() bool {
	if o.over {
		return false
	}
	o.over = true
	o.timer.Stop()
	delete(o.durables, o)
	return true
}

func (o *orphan) lease() time.Duration { return 0 }

func (o *orphan) send(l *link) {
	l.request(&wire.StreamRequest{Kind: wire.RequestCancel, Mark: o.mark}, o)
}

func (o *orphan) receive(l *link, m *wire.StreamMessage) (last bool, err error) {
	switch m.Kind {
	case wire.MessageDone:
		if o.end() {
			o.tasks.End(o)
		}
		return true, nil
	case wire.MessageError:
		err := o.sockets.Refusal("cancel lock "+o.mark, false, &m.Err)
		if acquire.Refused(err) {
			o.absent()
		}
		return true, nil // else the timer, or the next connection, goes on
	}
	return false, errWrongKind
}

func (o *orphan) lost(error) {}

func (o *orphan) outage(_ error, _ time.Duration, final bool) {
	if final {
		o.absent()
	}
}

// absent cleans up without the stream.
func (o *orphan) absent() {
	if o.end() {
		go o.otherwise()
	}
}

// otherwise cleans up without the stream. It begins another task of the client.
func (o *orphan) otherwise() {
	defer o.tasks.End(o)
	o.cleanUp(o.r)
}
