package wire

import "time"

const (
	StreamPath     = "/v1/stream"
	StreamProtocol = "relukko.stream.v1"
	MaxFrame       = 64 << 10 // bytes of one message of the stream
	MaxNames       = 100      // of one acquire
	MaxPriority    = 10       // and its negative is the least one
	MaxWaited      = 30 * 24 * time.Hour
)

// RequestKind says what a StreamRequest asks for.
type RequestKind int

const (
	RequestUnknown RequestKind = iota
	RequestAcquire
	RequestAcquireAll
	RequestCancel
	RequestRenew
	RequestRelease
	RequestPing
)

// StreamRequest is a message of a client on the stream.
type StreamRequest struct {
	N       uint64 // rises on each connection
	Kind    RequestKind
	Acquire StreamAcquire // for RequestAcquire and RequestAcquireAll
	Mark    string        // for RequestCancel
	ID      string        // of the lock, for RequestRenew and RequestRelease
	Lease   time.Duration // for RequestRenew
}

// StreamAcquire asks for a lock of any, or of all, of the names.
type StreamAcquire struct {
	Names    []string
	Creator  string // with a mark at its end
	Lease    time.Duration
	Wait     bool // while no name is free
	Progress bool // asks for MessageWaiting
	Again    bool // the mark was sent before, on another connection
	Priority int
	Waited   time.Duration // on earlier connections
}

// MessageKind says what a StreamMessage is.
type MessageKind int

const (
	MessageUnknown MessageKind = iota
	MessageHello
	MessageLock  // a granted or renewed lock
	MessageLocks // all of several
	MessageWaiting
	MessageDone
	MessagePong
	MessageError
	MessageDeleted // unasked, as the next two
	MessageWanted
	MessageBye
)

// StreamMessage is a message of a server on the stream.
type StreamMessage struct {
	Kind     MessageKind
	N        uint64 // of the request that it responds to; 0: unasked
	Key      string // for MessageHello: the key's name
	Role     string
	Features []string
	Seen     uint64 // for the lock of an acquire; HasSeen: there is such a member
	HasSeen  bool
	Lock     Lock   // for MessageLock and MessageDeleted
	Locks    []Lock // for MessageLocks
	Ahead    int    // for MessageWaiting
	Holder   *Lock  // for MessageWaiting; nil: unknown
	By       string // for MessageDeleted: the name of the key that deleted it; "": it expired
	ID       string // for MessageWanted
	Waiters  int    // for MessageWanted
	Err      StreamError
}

// StreamError is the refusal of a request.
type StreamError struct {
	Status  int
	Message string
	Lock    *Lock // the holder, for status 409; nil: unknown
}

// AppendStreamRequest appends r in JSON.
func AppendStreamRequest(b []byte, r *StreamRequest) []byte { panic("later") }

// ParseStreamRequest returns the request in a frame. An error is fit to be sent to the client; the
// request then has at least its N, if that could be read.
func ParseStreamRequest(frame []byte) (StreamRequest, error) { panic("later") }

// AppendStreamMessage appends m in JSON.
func AppendStreamMessage(b []byte, m *StreamMessage) []byte { panic("later") }

// ParseStreamMessage returns the message in a frame.
func ParseStreamMessage(frame []byte) (StreamMessage, error) { panic("later") }
