package stream

import (
	"time"

	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// cancelPause is the pause after which a cancel is repeated that failed for a reason that may pass.
const cancelPause = time.Second

// orphan is the mark of an acquire whose call has ended. It is cancelled on each connection until
// the server has confirmed that there is no lock of the mark and never will be. It implements
// [durable] and [receiver]. Its functions are called with stream.mu locked, and may be called more
// than once.
type orphan struct {
	*stream
	mark      string
	confirmed func()
	plainly   func()      // plain requests are needed: there is no stream, or its server refuses
	retry     *time.Timer // runs when a cancel has failed
}

// open reports whether the attempts go on. The caller holds o.mu.
func (o *orphan) open() bool {
	_, open := o.durables[o]
	return open
}

// end ends the attempts. The caller holds o.mu.
func (o *orphan) end() {
	delete(o.durables, o)
	o.retry.Stop()
}

func (o *orphan) lease() time.Duration { return 0 }

func (o *orphan) send(l *link) {
	o.retry.Stop()
	l.request(&wire.StreamRequest{Kind: wire.RequestCancel, Mark: o.mark}, o)
}

func (o *orphan) receive(_ *link, m *wire.StreamMessage) (last bool, err error) {
	switch m.Kind {
	case wire.MessageDone:
		o.end()
		o.confirmed()
		return true, nil
	case wire.MessageError:
		if acquire.Refused(o.sockets.Refusal("cancel", false, &m.Err)) {
			o.plainly() // the next connection may have another key, or another server
		} else if o.open() {
			o.retry.Reset(cancelPause)
		}
		return true, nil
	}
	return false, errWrongKind
}

// sendAgain repeats a cancel that has failed.
func (o *orphan) sendAgain() {
	o.mu.Lock()
	l := o.up()
	if l != nil && o.open() {
		o.send(l)
	}
	o.mu.Unlock()
	if l != nil {
		l.flush()
	}
}

func (o *orphan) lost(error) {}

func (o *orphan) outage(_ error, _ time.Duration, final bool) {
	if final {
		o.plainly()
	}
}

func (o *orphan) absent() { o.plainly() }
