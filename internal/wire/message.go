package wire

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// MessageKind says what a [StreamMessage] is.
type MessageKind int

const (
	MessageUnknown MessageKind = iota
	MessageHello               // the first on each connection
	MessageLock                // a granted or renewed lock
	MessageLocks               // all of several
	MessageWaiting
	MessageDone
	MessagePong
	MessageError
	MessageDeleted // unasked, as the next two
	MessageWanted
	MessageBye
)

// Members of a message beside the one that says its kind.
const (
	messageN = int(MessageBye) + 1 + iota
	messageSeen
	messageBy
)

var messageMembers = [...]string{
	MessageHello:   "hello",
	MessageLock:    "lock",
	MessageLocks:   "locks",
	MessageWaiting: "waiting",
	MessageDone:    "done",
	MessagePong:    "pong",
	MessageError:   "error",
	MessageDeleted: "deleted",
	MessageWanted:  "wanted",
	MessageBye:     "bye",
	messageN:       "n",
	messageSeen:    "seen",
	messageBy:      "by",
}

// StreamMessage is a message of a server on the stream.
type StreamMessage struct {
	Kind     MessageKind
	N        uint64 // of the request that it responds to; 0: unasked
	Key      string // for MessageHello: the key's name
	Role     string // for MessageHello
	Features []string
	Seen     uint64 // for MessageLock and MessageLocks; 0 also for what is no number of a request
	HasSeen  bool   // it responds to an acquire; false: to a renewal
	Lock     Lock   // for MessageLock and MessageDeleted
	Locks    []Lock // for MessageLocks
	Ahead    int    // for MessageWaiting; negative: unknown
	Rank     int64  // for MessageWaiting: microseconds since 1970, least first; 0: unknown
	Holder   *Lock  // for MessageWaiting; nil: unknown
	By       string // for MessageDeleted: the name of the key that deleted it; "": it expired
	ID       string // for MessageWanted, in lower case
	Waiters  int    // for MessageWanted
	Err      StreamError
}

// StreamError is the refusal of a request.
type StreamError struct {
	Status  int // 400 to 599
	Message string
	Lock    *Lock // the holder, for status 409; nil: unknown
}

// AppendStreamMessage appends m in JSON. Its strings must be valid UTF-8.
func AppendStreamMessage(b []byte, m *StreamMessage) []byte {
	b = append(b, '{')
	if m.N != 0 {
		b = append(b, `"n":`...)
		b = strconv.AppendUint(b, m.N, 10)
		b = append(b, ',')
	}
	if m.HasSeen {
		b = append(b, `"seen":`...)
		b = strconv.AppendUint(b, m.Seen, 10)
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, messageMembers[m.Kind]...)
	b = append(b, `":`...)
	switch m.Kind {
	case MessageHello:
		b = appendHello(b, m)
	case MessageLock:
		b = AppendLock(b, &m.Lock)
	case MessageLocks:
		b = appendLocks(b, m.Locks)
	case MessageWaiting:
		b = appendWaiting(b, m)
	case MessageError:
		b = AppendError(b, m.Err.Status, m.Err.Message, m.Err.Lock)
	case MessageDeleted:
		b = AppendLock(b, &m.Lock)
		if m.By != "" {
			b = append(b, `,"by":`...)
			b = appendString(b, m.By)
		}
	case MessageWanted:
		b = append(b, `{"id":`...)
		b = appendString(b, m.ID)
		b = append(b, `,"waiters":`...)
		b = strconv.AppendInt(b, int64(m.Waiters), 10)
		b = append(b, '}')
	default:
		b = append(b, "true"...)
	}
	return append(b, '}')
}

func appendHello(b []byte, m *StreamMessage) []byte {
	b = append(b, `{"key":`...)
	b = appendString(b, m.Key)
	b = append(b, `,"role":`...)
	b = appendString(b, m.Role)
	b = append(b, `,"features":`...)
	b = appendStrings(b, m.Features)
	return append(b, '}')
}

func appendLocks(b []byte, locks []Lock) []byte {
	b = append(b, '[')
	for i := range locks {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendLock(b, &locks[i])
	}
	return append(b, ']')
}

func appendWaiting(b []byte, m *StreamMessage) []byte {
	b = append(b, '{')
	if m.Ahead >= 0 {
		b = append(b, `"ahead":`...)
		b = strconv.AppendInt(b, int64(m.Ahead), 10)
		b = append(b, ',')
	}
	if m.Rank != 0 {
		b = append(b, `"rank":`...)
		b = strconv.AppendInt(b, m.Rank, 10)
		b = append(b, ',')
	}
	b = append(b, `"holder":`...)
	if m.Holder == nil {
		b = append(b, "null"...)
	} else {
		b = AppendLock(b, m.Holder)
	}
	return append(b, '}')
}

// ParseStreamMessage returns the message in a frame. One of an unknown kind is a MessageUnknown,
// without an error. The errors begin with "it" or "its" and are fit to be printed.
//
// What a client can do without is not checked: a holder that is no lock is nil, a place that is no
// number is negative, and a "seen" that is none is 0.
func ParseStreamMessage(frame []byte) (StreamMessage, error) {
	var (
		lock    Lock
		lockErr error
		raw     [len(messageMembers)][]byte
	)
	s := scan(frame)
	object := s.object()
	for object && s.member() {
		switch i := indexOf(messageMembers[:], s.name); i {
		case int(MessageLock): // not read twice, for speed
			s.kind()
			from := s.at
			lock, lockErr = s.lock(&Lock{})
			raw[i] = s.text[from:s.at]
		default:
			raw[i] = s.value()
		}
	}
	switch {
	case !s.end():
		return StreamMessage{}, errNotJSON
	case !utf8.Valid(frame):
		return StreamMessage{}, errors.New("it is not valid UTF-8")
	case !object:
		return StreamMessage{}, errNotObject
	}
	kind, ok := theKind(raw[:messageN])
	if !ok {
		return StreamMessage{}, errors.New("it says more than one thing")
	}
	m := StreamMessage{Kind: MessageKind(kind)}
	if m.N, ok = numberOf(raw[messageN]); !ok && (!isNull(raw[messageN]) || m.responds()) {
		return StreamMessage{},
			fmt.Errorf("its n is not the number of a request: %s", excerpt(raw[messageN]))
	}
	if m.HasSeen = !isNull(raw[messageSeen]); m.HasSeen {
		m.Seen, _ = numberOf(raw[messageSeen])
	}
	err := lockErr
	if m.Kind == MessageLock {
		m.Lock = lock
	} else {
		err = m.decode(raw[kind], raw[messageBy])
	}
	if err != nil {
		return StreamMessage{}, fmt.Errorf("its %s is wrong: %w", messageMembers[kind], err)
	}
	return m, nil
}

// responds reports whether a message of this kind always responds to a request.
func (m *StreamMessage) responds() bool {
	switch m.Kind {
	case MessageLock, MessageLocks, MessageWaiting, MessageDone, MessagePong:
		return true
	}
	return false
}

// decode reads the value of the member that says what m is, if that is not a lock.
func (m *StreamMessage) decode(raw, by []byte) (err error) {
	s := scan(raw)
	switch m.Kind {
	case MessageHello:
		return m.decodeHello(&s)
	case MessageLocks:
		return s.locks(func(l *Lock) { m.Locks = append(m.Locks, *l) })
	case MessageWaiting:
		return m.decodeWaiting(&s)
	case MessageError:
		return m.Err.decode(&s)
	case MessageDeleted:
		if m.Lock, err = s.lock(&Lock{}); err == nil {
			m.By, err = stringOf("by", by)
		}
		return err
	case MessageWanted:
		return m.decodeWanted(&s)
	case MessageDone, MessagePong, MessageBye:
		if !isTrue(raw) {
			return fmt.Errorf("it is not true: %s", excerpt(raw))
		}
	}
	return nil
}

func (m *StreamMessage) decodeHello(s *scanner) (err error) {
	var key, role, features []byte
	if s.fields(field{"key", &key}, field{"role", &role}, field{"features", &features}) < 0 {
		return errNotObject
	}
	if m.Key, err = stringOf("key", key); err != nil {
		return err
	}
	if m.Role, err = stringOf("role", role); err != nil {
		return err
	}
	if isNull(features) {
		return nil
	}
	list := scan(features)
	if !list.array() {
		return errors.New("its features are not a JSON array")
	}
	for list.element() {
		if feature, ok := text(list.value()); ok {
			m.Features = append(m.Features, feature)
		}
	}
	return nil
}

func (m *StreamMessage) decodeWaiting(s *scanner) error {
	var ahead, rank, holder []byte
	if s.fields(field{"ahead", &ahead}, field{"rank", &rank}, field{"holder", &holder}) < 0 {
		return errNotObject
	}
	m.Ahead, m.Holder = countOf(ahead), holderOf(holder)
	m.Rank, _ = integerOf(rank)
	return nil
}

func (m *StreamMessage) decodeWanted(s *scanner) (err error) {
	var id, waiters []byte
	if s.fields(field{"id", &id}, field{"waiters", &waiters}) < 0 {
		return errNotObject
	}
	if m.ID, err = idOf(id, ""); err != nil {
		return err
	}
	if m.Waiters = countOf(waiters); m.Waiters < 0 {
		return fmt.Errorf("its waiters is not a number: %s", excerpt(waiters))
	}
	return nil
}

func (e *StreamError) decode(s *scanner) (err error) {
	var status, message, lock []byte
	if s.fields(field{"status", &status}, field{"message", &message}, field{"lock", &lock}) < 0 {
		return errNotObject
	}
	e.Status, e.Lock = countOf(status), holderOf(lock)
	if e.Status < 400 || e.Status > 599 {
		return fmt.Errorf("its status is not that of an error: %s", excerpt(status))
	}
	e.Message, err = stringOf("message", message)
	return err
}

// stringOf returns the string in raw; "" if it is missing or null.
func stringOf(member string, raw []byte) (string, error) {
	s, ok := text(raw)
	if !ok && !isNull(raw) {
		return "", fmt.Errorf("its %s is neither null nor a string: %s", member, excerpt(raw))
	}
	return s, nil
}
