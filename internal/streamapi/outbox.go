package streamapi

import (
	"net"
	"sync"
	"syscall"
	"time"

	"gitlab.com/relukko/relukko-go/internal/rawio"
)

const (
	maxPending    = 1000             // messages, with more the server stops reading
	takeTimeout   = 10 * time.Second // for a client that takes nothing
	silentTimeout = 60 * time.Second // for a client that sends nothing
	closeTimeout  = time.Second      // for the client's close frame, after the server's
	slack         = 2 * time.Second  // by which deadlines may be later, so that few are set
	writeChunk    = 64 << 10         // bytes that are written under one deadline
	keptBuffer    = 4 << 10          // bytes of a buffer that an idle connection keeps
)

// outbox is the network connection of a WebSocket. It collects the frames that are written to it,
// so that nobody who writes one ever waits for the client, and decides which goroutine passes them
// on to the network:
//
//   - The reader does before it reads on, that is, when it has handled all that the client has
//     sent. So responses go out together, without another goroutine, and a client that does not
//     take them is not read from.
//   - Frames that others write go out in the flush that follows, as far as the network takes them
//     without waiting: a grant does not wait for another goroutine. What is left is written by a
//     goroutine that is started for it. If the reader is at work, or somebody writes already,
//     they write these frames too.
type outbox struct {
	net.Conn                 // the network
	raw      syscall.RawConn // the same, nil where there is no such thing

	mu       sync.Mutex
	written  sync.Cond // somebody has written a part
	frames   []byte    // to be written
	spare    []byte    // the buffer of the frames before
	messages int       // in frames, and in what is being written
	reading  bool      // the reader waits for the network
	writing  bool      // somebody writes
	eager    bool      // frames do not wait for a flush
	ended    bool

	rests           func()    // is called by the reader before it waits
	writeBy, readBy time.Time // the deadlines that are set
	writers         sync.WaitGroup
}

func newOutbox(conn net.Conn) *outbox {
	o := &outbox{Conn: rawio.New(conn)}
	if s, ok := conn.(syscall.Conn); ok {
		o.raw, _ = s.SyscallConn()
	}
	o.written.L = &o.mu
	return o
}

// Write collects frames.
func (o *outbox) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return 0, net.ErrClosed
	}
	o.frames = append(o.frames, p...)
	if o.eager {
		o.start()
	}
	return len(p), nil
}

// count counts a message among those that are pending.
func (o *outbox) count() {
	o.mu.Lock()
	o.messages++
	o.mu.Unlock()
}

// flush has the frames written that were collected. It does not wait for that.
func (o *outbox) flush() {
	o.mu.Lock()
	if o.reading { // otherwise the reader writes them soon
		o.try()
		o.start()
	}
	o.mu.Unlock()
}

// try writes frames as far as the network takes them without waiting.
func (o *outbox) try() {
	if o.writing || o.ended || len(o.frames) == 0 || o.raw == nil {
		return
	}
	batch, messages := o.take()
	o.writing = true
	o.extend()
	o.mu.Unlock()
	n := rawio.TryWrite(o.raw, batch)
	o.mu.Lock()
	o.writing = false
	if n < len(batch) {
		o.frames = append(batch[n:], o.frames...)
		o.written.Broadcast()
		return
	}
	o.taken(batch, messages)
}

// take returns what is to be written now, and how many messages are in it.
func (o *outbox) take() (batch []byte, messages int) {
	batch = o.frames
	o.frames, o.spare = o.spare, nil
	return batch, o.messages
}

// taken records that a batch was written.
func (o *outbox) taken(batch []byte, messages int) {
	o.messages -= messages
	if cap(batch) <= keptBuffer {
		o.spare = batch[:0]
	}
	o.written.Broadcast()
}

// hurry makes frames of now and later go out without a flush.
func (o *outbox) hurry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.eager = true
	o.limit()
	o.start()
}

// limit bounds the time for what is left to be written.
func (o *outbox) limit() {
	_ = o.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
}

// start starts a goroutine that writes, unless there is one.
func (o *outbox) start() {
	if o.writing || o.ended || len(o.frames) == 0 {
		return
	}
	o.writing = true
	o.writers.Go(func() {
		o.mu.Lock()
		o.drain()
		o.mu.Unlock()
	})
}

// drain writes all frames. The caller has set writing, and mu is locked at the beginning and at the
// end.
func (o *outbox) drain() {
	for len(o.frames) > 0 && !o.ended {
		batch, messages := o.take()
		for rest := batch; len(rest) > 0 && !o.ended; {
			n, err := o.put(rest[:min(len(rest), writeChunk)])
			if rest = rest[n:]; err != nil {
				o.end()
			}
		}
		o.taken(batch, messages)
	}
	o.writing = false
	o.written.Broadcast()
}

// put writes p to the network, without mu.
func (o *outbox) put(p []byte) (int, error) {
	o.extend()
	o.mu.Unlock()
	defer o.mu.Lock()
	return o.Conn.Write(p)
}

// extend sets the time by which the client must have taken what is written next.
func (o *outbox) extend() {
	if now := time.Now(); !o.eager && o.writeBy.Sub(now) < takeTimeout {
		o.writeBy = now.Add(takeTimeout + slack)
		_ = o.Conn.SetWriteDeadline(o.writeBy)
	}
}

// Read reads from the network, after what is pending for it. It returns when the connection is
// cut, and os.ErrDeadlineExceeded if the client is silent.
func (o *outbox) Read(p []byte) (int, error) {
	o.mu.Lock()
	o.reading = true
	if !o.writing {
		o.writing = true
		o.drain()
	}
	for o.messages >= maxPending && o.writing {
		o.written.Wait()
	}
	o.mu.Unlock()
	o.rests()
	if now := time.Now(); o.readBy.Sub(now) < silentTimeout {
		o.readBy = now.Add(silentTimeout + slack)
		_ = o.Conn.SetReadDeadline(o.readBy)
	}
	n, err := o.Conn.Read(p)
	o.mu.Lock()
	o.reading = false
	o.mu.Unlock()
	return n, err
}

// Close ends the connection after the frames that are pending, which have closeTimeout.
func (o *outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.eager = true
		o.limit()
		for o.writing {
			o.written.Wait()
		}
		o.writing = true
		o.drain()
	}
	o.end()
	return nil
}

// cut ends the connection, whatever is pending.
func (o *outbox) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end()
}

// end closes the network, without mu: TLS takes leave of the client.
func (o *outbox) end() {
	o.ended = true
	o.mu.Unlock()
	defer o.mu.Lock()
	_ = o.Conn.Close()
}
