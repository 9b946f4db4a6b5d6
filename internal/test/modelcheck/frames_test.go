package modelcheck_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// frames is the WebSocket of a stream. It records the requests and their answers as exchanges, and
// breaks the connection where the plan says so.
type frames struct {
	io.ReadWriteCloser
	wire *transport

	up, down frameReader
	under    chan []sentFrame // way to the server, each write passed on after the latency
	closed   chan struct{}    // nothing is under way any more
	close    func() error
	toRead   []byte
	readErr  error

	mu   sync.Mutex // guards the following
	open map[uint64]*exchange
}

func newFrames(w *transport, below io.ReadWriteCloser) *frames {
	f := &frames{
		ReadWriteCloser: below, wire: w, open: make(map[uint64]*exchange),
		under: make(chan []sentFrame, 1000), closed: make(chan struct{}),
	}
	f.close = sync.OnceValue(func() error {
		close(f.closed)
		return below.Close()
	})
	go f.carry()
	return f
}

// Close implements [io.Closer].
func (f *frames) Close() error { return f.close() }

var errBroken = errors.New("the plan has broken the connection")

// frameReader finds the frames in what is written.
type frameReader struct{ rest []byte }

// next returns the next frame and its payload; nil: there is none yet.
func (r *frameReader) next() (frame, payload []byte) {
	b := r.rest
	if len(b) < 2 {
		return nil, nil
	}
	n, at := int(b[1]&0x7f), 2
	switch {
	case n == 126 && len(b) >= 4:
		n, at = int(binary.BigEndian.Uint16(b[2:])), 4
	case n == 127 && len(b) >= 10:
		n, at = int(binary.BigEndian.Uint64(b[2:])), 10
	case n >= 126:
		return nil, nil
	}
	masked := b[1]&0x80 != 0
	if masked {
		at += 4
	}
	if len(b) < at+n {
		return nil, nil
	}
	frame, r.rest = slices.Clone(b[:at+n]), b[at+n:]
	payload = slices.Clone(frame[at:])
	if masked {
		for i := range payload {
			payload[i] ^= frame[at-4+i%4]
		}
	}
	return frame, payload
}

// sentFrame is a frame that the client has written.
type sentFrame struct {
	bytes []byte
	what  string // the kind of the request
}

// Write implements [io.Writer]. A request counts as sent from then on, also if it does not arrive:
// the client cannot know.
func (f *frames) Write(b []byte) (int, error) {
	f.up.rest = append(f.up.rest, b...)
	var sent []sentFrame
	for frame, payload := f.up.next(); frame != nil; frame, payload = f.up.next() {
		sent = append(sent, sentFrame{frame, f.sent(payload)})
	}
	select {
	case <-f.closed:
		return 0, errBroken
	case f.under <- sent:
		return len(b), nil
	}
}

// carry passes on what is under way.
func (f *frames) carry() {
	for {
		select {
		case <-f.closed:
			return
		case sent := <-f.under:
			select {
			case <-f.closed:
				return
			case <-time.After(f.wire.world.frameLatency(f.wire.client, "up")):
			}
			f.pass(sent)
		}
	}
}

// pass writes frames to the server.
func (f *frames) pass(sent []sentFrame) {
	for _, frame := range sent {
		before, after := f.wire.world.breaks(f.wire.client, frame.what, "up")
		if before {
			f.cut("before", frame.what)
			return
		}
		if _, err := f.ReadWriteCloser.Write(frame.bytes); err != nil {
			f.Close()
			return
		}
		if after {
			f.cut("after", frame.what)
			return
		}
	}
}

// Read implements [io.Reader].
func (f *frames) Read(b []byte) (int, error) {
	for len(f.toRead) == 0 {
		if f.readErr != nil {
			return 0, f.readErr
		}
		part := make([]byte, 4096)
		n, err := f.ReadWriteCloser.Read(part)
		f.readErr = err
		if n > 0 {
			time.Sleep(f.wire.world.frameLatency(f.wire.client, "down"))
		}
		f.down.rest = append(f.down.rest, part[:n]...)
		f.receive()
	}
	n := copy(b, f.toRead)
	f.toRead = f.toRead[n:]
	return n, nil
}

// receive makes the frames that have come readable.
func (f *frames) receive() {
	for f.readErr != errBroken {
		frame, payload := f.down.next()
		if frame == nil {
			return
		}
		m, err := wire.ParseStreamMessage(payload)
		isText := frame[0]&0x0f == 1 && err == nil
		what := ""
		if isText {
			what = f.about(&m)
		}
		before, after := f.wire.world.breaks(f.wire.client, what, "down")
		if before {
			f.cut("before the answer to", what)
			f.readErr = errBroken
			return
		}
		if isText {
			f.received(&m)
		}
		f.toRead = append(f.toRead, frame...)
		if after {
			f.cut("after the answer to", what)
			f.readErr = errBroken
		}
	}
}

func (f *frames) cut(when, what string) {
	f.wire.world.note(f.wire.who(), "the stream breaks %s %s", when, what)
	f.Close()
}

// sent records a request, and returns its kind.
func (f *frames) sent(payload []byte) (what string) {
	req, err := wire.ParseStreamRequest(payload)
	if err != nil {
		return ""
	}
	x := &exchange{client: f.wire.client, ret: never, method: "stream"}
	switch req.Kind {
	case wire.RequestAcquire, wire.RequestAcquireAll:
		x.what, x.names, x.creator = ofCreate, req.Acquire.Names, req.Acquire.Creator
		x.wait, x.all = req.Acquire.Wait, req.Kind == wire.RequestAcquireAll
	case wire.RequestRenew:
		x.what, x.id = ofRenew, req.ID
	case wire.RequestRelease:
		x.what, x.id = ofRelease, req.ID
	case wire.RequestCancel:
		f.wire.world.note(f.wire.who(), "stream %d: cancel #%s", req.N, req.Mark)
		return ofCancel
	default:
		return ""
	}
	r := f.wire.world.record
	x.call = r.note(f.wire.who(), "stream %d: %s (again: %v)", req.N, x, req.Acquire.Again)
	r.mu.Lock()
	r.exchange = append(r.exchange, x)
	r.mu.Unlock()
	f.mu.Lock()
	f.open[req.N] = x
	f.mu.Unlock()
	return x.what
}

// about returns the kind of the request that a message answers.
func (f *frames) about(m *wire.StreamMessage) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.open[m.N]; x != nil {
		return x.what
	}
	return ""
}

// received records a message.
func (f *frames) received(m *wire.StreamMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, who := f.wire.world.record, f.wire.who()
	x := f.open[m.N]
	switch {
	case m.Kind == wire.MessageDeleted:
		r.note(who, "stream: lock %s was deleted", brief(m.Lock.ID))
	case x == nil:
	case m.Kind == wire.MessageWaiting:
		r.note(who, "stream %d: %d ahead", m.N, m.Ahead)
	case m.Kind == wire.MessageLock:
		at := r.note(who, "stream %d: lock %s, seen %d", m.N, brief(m.Lock.ID), m.Seen)
		x.end(r, at, 200, wire.AppendLock(nil, &m.Lock))
		delete(f.open, m.N)
	case m.Kind == wire.MessageLocks:
		at := r.note(who, "stream %d: %d locks, first %s, seen %d", m.N, len(m.Locks),
			brief(m.Locks[0].ID), m.Seen)
		body := []byte{'['}
		for i := range m.Locks {
			body = append(wire.AppendLock(body, &m.Locks[i]), ',')
		}
		body[len(body)-1] = ']'
		x.end(r, at, 200, body)
		delete(f.open, m.N)
	case m.Kind == wire.MessageDone:
		at := r.note(who, "stream %d: done", m.N)
		x.end(r, at, 204, nil)
		delete(f.open, m.N)
	case m.Kind == wire.MessageError:
		at := r.note(who, "stream %d: error %d: %s", m.N, m.Err.Status, m.Err.Message)
		body := map[string]any{"status": m.Err.Status, "message": m.Err.Message}
		if m.Err.Lock != nil {
			body["lock"] = json.RawMessage(wire.AppendLock(nil, m.Err.Lock))
		}
		b, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		x.end(r, at, m.Err.Status, b)
		delete(f.open, m.N)
	}
}
