package stream

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/sockets"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// What surely fits into the buffers of a connection: so many requests without an answer, each of at
// most so many bytes. A write then does not block.
const (
	fewOpen  = 32
	fewBytes = 2 << 10
)

// A connection is read by one goroutine at a time, as a rule that of the stream. While requests
// follow one another, each open alone and sent within busyTime of the response before, it is the
// goroutine of their caller: to wake another one takes the runtime long. The goroutine of the
// stream reads events again busyTime after the last response. If that were only a few milliseconds,
// the kernel would set its timer anew for each wait.
const busyTime = 10 * time.Millisecond

const (
	writeTime = 5 * time.Second // then a connection that takes nothing is cut
	pongTime  = 5 * time.Second // then a connection whose server does not respond is cut
	leaveTime = time.Second     // then one is cut on which a caller still reads that is to return
)

var errNoPong = fmt.Errorf("no answer to a ping within %v", pongTime)

// receiver is a request that waits for its answer.
type receiver interface {
	// receive handles a message for the request on l, and reports whether it was the last. An error
	// means that it is no answer to such a request.
	receive(l *link, m *wire.StreamMessage) (last bool, err error)

	// lost is called when the connection has ended before the last message.
	lost(err error)
}

// link is one connection to the server.
type link struct {
	conn  sockets.Conn
	clock *clock.Clock
	all   bool // the server grants all of several names together

	mu      *sync.Mutex // of the stream; guards the following
	over    error       // why the connection ends; nil while it may be used
	n       uint64      // of the last request
	written uint64      // of the last request that a write has begun with; later ones were not sent
	open    map[uint64]receiver

	reading   bool          // somebody reads
	leading   bool          // it is a caller
	busy      bool          // the last request came soon after a response; its caller may read
	answered  time.Time     // when the last response came; zero: none has
	wake      chan struct{} // has the stream's goroutine read
	wakeLater clock.Alarm   // the same, later
	failed    chan error    // why a caller could not read
	late      clock.Alarm   // cuts the connection when an interrupted read does not return
	ended     func() bool   // ends the watch for the client's end

	overdue bool // a request was not answered in its time, and nothing was heard since

	sends    sends
	lastSent time.Time
	message  wire.StreamMessage // the last one that was read

	pending frames
	spare   frames
	writing bool
	stuck   clock.Alarm // cuts the connection when a write takes too long
	pong    *time.Timer // cuts the connection when a pong does not come
	pings   int         // without a pong
	tick    *time.Timer
	period  time.Duration // of tick
}

func newLink(conn sockets.Conn, c *clock.Clock, mu *sync.Mutex) *link {
	l := &link{
		conn: conn, clock: c, mu: mu, open: make(map[uint64]receiver),
		wake: make(chan struct{}, 1), failed: make(chan error, 1),
	}
	l.wakeLater = c.Alarm(l.wakeReader)
	l.late = c.Alarm(func() {
		l.cut(fmt.Errorf("the rest of a message did not come within %v", leaveTime))
	})
	l.stuck = c.Alarm(func() {
		l.cut(fmt.Errorf("the connection took nothing for %v", writeTime))
	})
	l.pong = time.AfterFunc(pongTime, func() {
		l.cut(errNoPong)
	})
	l.pong.Stop()
	return l
}

// request sends a request once the caller, who holds mu, has released it and calls flush. It
// returns the number of the request.
func (l *link) request(r *wire.StreamRequest, to receiver) uint64 {
	now := l.clock.Now()
	l.n++
	r.N = l.n
	l.open[r.N] = to
	if !l.reading {
		l.wakeReader()
	}
	l.sends.add(r.N, now)
	l.lastSent = now.Time()
	l.busy = now.Time().Sub(l.answered) < busyTime && l.conn.Interruptible()
	l.pending.add(r)
	return r.N
}

// ping sends a ping, as request does.
func (l *link) ping() {
	l.request(&wire.StreamRequest{Kind: wire.RequestPing}, (*pong)(l))
	if l.pings++; l.pings == 1 {
		l.pong.Reset(pongTime)
	}
}

// pong is a ping that waits for its answer.
type pong link

func (p *pong) receive(_ *link, m *wire.StreamMessage) (last bool, err error) {
	if m.Kind != wire.MessagePong {
		return false, errWrongKind
	}
	if p.pings--; p.pings == 0 {
		p.pong.Stop()
	} else {
		p.pong.Reset(pongTime)
	}
	return true, nil
}

func (p *pong) lost(error) {}

var errWrongKind = errors.New("a message is no answer to the request whose number it has")

// lead has the caller read, if nobody does and it is about to make the only request. The caller
// holds mu.
func (l *link) lead() bool {
	if l.reading || len(l.open) > 0 || l.over != nil || !l.conn.Interruptible() {
		return false
	}
	l.reading, l.leading = true, true
	return true
}

// startReading has the stream's goroutine read, and reports whether nobody else does.
func (l *link) startReading() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reading {
		return false
	}
	l.reading = true
	select {
	case <-l.wake: // once is enough
	default:
	}
	return true
}

// readsOn reports whether the stream's goroutine is to read on. After the last response it stops if
// the link is busy, so that the next caller may read.
func (l *link) readsOn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.message.N == 0 || !l.busy || len(l.open) > 0 || l.over != nil {
		return true
	}
	l.stopReading()
	return false
}

// stopReading records that nobody reads. If responses are to come the stream's goroutine reads
// them, else it waits for the next caller first. The caller holds mu.
func (l *link) stopReading() {
	l.reading, l.leading = false, false
	l.late.Clear()
	if len(l.open) > 0 || l.over != nil {
		l.wakeReader()
	} else {
		l.wakeLater.Set(busyTime)
	}
}

// wakeReader has the stream's goroutine read if nobody does.
func (l *link) wakeReader() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// interrupt has a caller that reads look whether it still waits.
func (l *link) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leading {
		l.late.Set(leaveTime) // a message may come slowly, or what reads it may be stuck
		l.conn.Interrupt()
	}
}

// flush writes what is pending, unless another goroutine writes already. It does not block: where
// many requests have no answer, so that the connection may be stuck, or one is long, another
// goroutine writes.
func (l *link) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writing || len(l.pending.ends) == 0 {
		return
	}
	l.writing = true
	many := len(l.open) > fewOpen
	if many || len(l.pending.bytes) > fewBytes || l.write() {
		go l.writeRest(many)
	}
}

// flushInBackground is flush for callers that must not be held up by a write at all.
func (l *link) flushInBackground() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.writing && len(l.pending.ends) > 0 {
		l.writing = true
		go l.writeRest(false)
	}
}

// writeRest writes until nothing is pending. If gather is set, requests of goroutines that were
// woken by the same message take one write: they run first. Renewals are not held up by that where
// processors are short.
func (l *link) writeRest(gather bool) {
	if gather {
		runtime.Gosched()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.write() {
	}
}

// write writes what is pending and reports whether more is pending then. If not, l.writing is
// false. The caller holds l.mu, which write unlocks for the time of the write.
func (l *link) write() (more bool) {
	if l.over != nil || len(l.pending.ends) == 0 {
		l.writing = false
		return false
	}
	out := l.pending
	l.pending, l.written = l.spare, l.n
	l.mu.Unlock()
	l.stuck.Set(writeTime)
	err := l.conn.Write(out.all())
	l.stuck.Clear()
	if err != nil {
		l.cut(err)
	}
	l.mu.Lock()
	l.spare = out.reset()
	l.writing = len(l.pending.ends) > 0 && l.over == nil
	return l.writing
}

// cut ends the connection.
func (l *link) cut(err error) {
	if l.end(err) {
		l.conn.Cut()
	}
}

// end has nobody use the connection any more, and reports whether it was still used.
func (l *link) end(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over != nil {
		return false
	}
	l.over = err
	return true
}

// release stops what is left of a connection that has ended, and tells the requests. The caller
// holds l.mu.
func (l *link) release(err error) {
	if l.over == nil {
		l.over = err
	}
	l.wakeLater.Free()
	l.late.Free()
	l.stuck.Free()
	l.pong.Stop()
	if l.tick != nil { // it was used
		l.tick.Stop()
		l.ended()
	}
	for _, r := range l.open {
		r.lost(l.over)
	}
	clear(l.open)
}

// frames are encoded requests.
type frames struct {
	bytes []byte
	ends  []int
	list  [][]byte // of all
}

const maxSpare = 64 << 10 // bytes of a buffer that is used again

func (f *frames) add(r *wire.StreamRequest) {
	f.bytes = wire.AppendStreamRequest(f.bytes, r)
	f.ends = append(f.ends, len(f.bytes))
}

// all returns the requests, each in a slice.
func (f *frames) all() [][]byte {
	f.list = f.list[:0]
	start := 0
	for _, end := range f.ends {
		f.list = append(f.list, f.bytes[start:end])
		start = end
	}
	return f.list
}

// reset returns the memory of f for others.
func (f *frames) reset() frames {
	if cap(f.bytes) > maxSpare {
		return frames{}
	}
	return frames{bytes: f.bytes[:0], ends: f.ends[:0], list: f.list[:0]}
}
