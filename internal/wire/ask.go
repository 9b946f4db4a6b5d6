package wire

import (
	"slices"
	"strconv"
	"time"
)

// RequestKind says what a [StreamRequest] asks for.
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

// Members of a request beside the one that says its kind.
const (
	requestN = int(RequestPing) + 1 + iota
	requestLease
)

var requestMembers = [...]string{
	RequestAcquire:    "acquire",
	RequestAcquireAll: "acquire_all",
	RequestCancel:     "cancel",
	RequestRenew:      "renew",
	RequestRelease:    "release",
	RequestPing:       "ping",
	requestN:          "n",
	requestLease:      "lease",
}

// StreamRequest is a message of a client on the stream.
type StreamRequest struct {
	N       uint64 // positive, below 2^53, rises on each connection
	Kind    RequestKind
	Acquire StreamAcquire // for RequestAcquire and RequestAcquireAll
	Mark    string        // for RequestCancel
	ID      string        // of the lock, in lower case, for RequestRenew and RequestRelease
	Lease   time.Duration // for RequestRenew, in whole microseconds
}

// StreamAcquire asks for a lock of any, or of all, of the names.
type StreamAcquire struct {
	Names    []string // 1 to MaxNames, without repetition
	Creator  string   // with a mark at its end
	Lease    time.Duration
	Wait     bool          // while no name is free
	Progress bool          // asks for MessageWaiting
	Again    bool          // the mark was sent before, on another connection
	Priority int           // −MaxPriority to MaxPriority; more is served earlier
	Waited   time.Duration // on earlier connections
	Rank     int64         // of the last MessageWaiting, for Again; 0: unknown
	Place    int           // by the last MessageWaiting, for Again: 1 is next; 0: unknown
}

// AppendStreamRequest appends r in JSON. Its strings must be valid UTF-8.
func AppendStreamRequest(b []byte, r *StreamRequest) []byte {
	b = append(b, `{"n":`...)
	b = strconv.AppendUint(b, r.N, 10)
	if r.Kind != RequestUnknown {
		b = append(b, `,"`...)
		b = append(b, requestMembers[r.Kind]...)
		b = append(b, `":`...)
	}
	switch r.Kind {
	case RequestAcquire, RequestAcquireAll:
		b = appendAcquire(b, &r.Acquire)
	case RequestCancel:
		b = appendString(b, r.Mark)
	case RequestRenew:
		b = appendString(b, r.ID)
		b = append(b, `,"lease":`...)
		b = appendSeconds(b, r.Lease)
	case RequestRelease:
		b = appendString(b, r.ID)
	case RequestPing:
		b = append(b, "true"...)
	}
	return append(b, '}')
}

func appendAcquire(b []byte, a *StreamAcquire) []byte {
	b = append(b, `{"lock_names":`...)
	b = appendStrings(b, a.Names)
	b = append(b, `,"creator":`...)
	b = appendString(b, a.Creator)
	b = append(b, `,"lease":`...)
	b = appendSeconds(b, a.Lease)
	b = append(b, `,"wait":`...)
	b = strconv.AppendBool(b, a.Wait)
	b = append(b, `,"progress":`...)
	b = strconv.AppendBool(b, a.Progress)
	b = append(b, `,"again":`...)
	b = strconv.AppendBool(b, a.Again)
	b = append(b, `,"priority":`...)
	b = strconv.AppendInt(b, int64(a.Priority), 10)
	b = append(b, `,"waited":`...)
	b = appendSeconds(b, a.Waited)
	if a.Rank != 0 {
		b = append(b, `,"rank":`...)
		b = strconv.AppendInt(b, a.Rank, 10)
	}
	if a.Place != 0 {
		b = append(b, `,"place":`...)
		b = strconv.AppendInt(b, int64(a.Place), 10)
	}
	return append(b, '}')
}

// ParseStreamRequest returns the request in a frame. A request for something unknown is a
// RequestUnknown, without an error. Every error is a [*RequestError]; the request has its N even
// then, if that could be read.
func ParseStreamRequest(frame []byte) (StreamRequest, error) {
	var (
		r        StreamRequest
		raw      [len(requestMembers)][]byte
		acquires [RequestAcquireAll + 1]struct {
			StreamAcquire
			err error
		}
	)
	s := scan(frame)
	object := s.object()
	for object && s.member() {
		switch i := indexOf(requestMembers[:], s.name); i {
		case int(RequestAcquire), int(RequestAcquireAll):
			raw[i], acquires[i].StreamAcquire, acquires[i].err = s.acquire()
		default:
			raw[i] = s.value()
		}
	}
	var ok bool
	r.N, ok = numberOf(raw[requestN])
	if err := s.check("message", object); err != nil {
		return r, err
	}
	if !ok {
		return r, invalid("n must be a positive integer below 2^53")
	}
	kind, ok := theKind(raw[:requestN])
	if !ok {
		return r, invalid("a message must ask for one thing")
	}
	r.Kind = RequestKind(kind)
	if r.Kind == RequestAcquire || r.Kind == RequestAcquireAll {
		r.Acquire = acquires[kind].StreamAcquire
		return r, acquires[kind].err
	}
	return r, r.decode(raw[kind], raw[requestLease])
}

// decode reads the value of the member that says what r asks for, if that is not an acquire.
func (r *StreamRequest) decode(raw, lease []byte) (err error) {
	switch r.Kind {
	case RequestCancel:
		r.Mark, err = decodeMark(raw)
	case RequestRenew:
		r.ID = decodeField(&err, decodeID, raw)
		r.Lease = decodeField(&err, decodeLease, lease)
	case RequestRelease:
		r.ID, err = decodeID(raw)
	case RequestPing:
		if !isTrue(raw) {
			r.Kind = RequestUnknown
		}
	}
	return err
}

// acquire reads the value of a member "acquire" or "acquire_all".
func (s *scanner) acquire() (raw []byte, a StreamAcquire, err error) {
	s.kind()
	from := s.at
	var names, creator, lease, wait, progress, again, priority, waited, rank, place []byte
	count := s.fields(field{"lock_names", &names}, field{"creator", &creator},
		field{"lease", &lease}, field{"wait", &wait}, field{"progress", &progress},
		field{"again", &again}, field{"priority", &priority}, field{"waited", &waited},
		field{"rank", &rank}, field{"place", &place})
	if count < 0 {
		return s.text[from:s.at], a, invalid("what to acquire must be an object")
	}
	a.Names, err = decodeNames(names)
	a.Creator = decodeField(&err, decodeMarked, creator)
	a.Lease = decodeField(&err, decodeLease, lease)
	a.Wait = decodeField(&err, decodeBool, wait)
	a.Progress = decodeField(&err, decodeBool, progress)
	a.Again = decodeField(&err, decodeBool, again)
	a.Priority = decodeField(&err, decodePriority, priority)
	a.Waited = decodeField(&err, decodeWaited, waited)
	a.Rank = decodeField(&err, decodeRank, rank)
	a.Place = decodeField(&err, decodePlace, place)
	return s.text[from:s.at], a, err
}

// decodeField decodes raw, unless something before it was in error.
func decodeField[T any](err *error, decode func([]byte) (T, error), raw []byte) (value T) {
	if *err == nil {
		value, *err = decode(raw)
	}
	return value
}

var errNoNames = invalid("lock_names must be an array of 1 to %d names", MaxNames)

func decodeNames(raw []byte) (names []string, err error) {
	s := scan(raw)
	if !s.array() {
		return nil, errNoNames
	}
	for s.element() {
		value := s.value()
		if err != nil {
			continue
		}
		var name string
		name, err = decodeText("a name in lock_names", value, 1, maxName)
		switch {
		case err != nil:
		case len(names) == MaxNames:
			err = errNoNames
		case slices.Contains(names, name):
			err = invalid("lock_names must not have a name twice")
		default:
			names = append(names, name)
		}
	}
	if err == nil && len(names) == 0 {
		err = errNoNames
	}
	return names, err
}

func decodeMarked(raw []byte) (string, error) {
	creator, err := decodeCreator(raw)
	if err != nil {
		return "", err
	}
	if creator != nil {
		if _, _, ok := CutMark(*creator); ok {
			return *creator, nil
		}
	}
	return "", invalid("creator must end with a mark, like %q", WithMark("", "k3v5x2m4q7ab"))
}

func decodeMark(raw []byte) (string, error) {
	mark := string(decoded(raw))
	if !ValidMark(mark) {
		return "", invalid("cancel must be a mark, %d lower-case letters and digits", markLength)
	}
	return mark, nil
}

func decodeID(raw []byte) (string, error) {
	id, ok := ParseID(string(decoded(raw)))
	if !ok {
		return "", invalid("the id of a lock must be a UUID")
	}
	return id, nil
}

func decodeLease(raw []byte) (time.Duration, error) {
	d, ok := parseSeconds(string(raw), MinLease.Seconds(), MaxLease.Seconds())
	if !ok {
		return 0, invalid("lease must be between %v and %.0f seconds",
			MinLease.Seconds(), MaxLease.Seconds())
	}
	return d, nil
}

func decodeWaited(raw []byte) (time.Duration, error) {
	if isNull(raw) {
		return 0, nil
	}
	d, ok := parseSeconds(string(raw), 0, MaxWaited.Seconds())
	if !ok {
		return 0, invalid("waited must be between 0 and %.0f seconds", MaxWaited.Seconds())
	}
	return d, nil
}

func decodeRank(raw []byte) (int64, error) {
	if isNull(raw) {
		return 0, nil
	}
	n, ok := integerOf(raw)
	if !ok {
		return 0, invalid("rank must be an integer")
	}
	return n, nil
}

func decodePlace(raw []byte) (int, error) {
	if isNull(raw) {
		return 0, nil
	}
	if n := countOf(raw); n > 0 {
		return n, nil
	}
	return 0, invalid("place must be a positive integer")
}

func decodePriority(raw []byte) (int, error) {
	if isNull(raw) {
		return 0, nil
	}
	n, ok := integerOf(raw)
	if !ok || n < -MaxPriority || n > MaxPriority {
		return 0, invalid("priority must be an integer between %d and %d",
			-MaxPriority, MaxPriority)
	}
	return int(n), nil
}

func decodeBool(raw []byte) (bool, error) {
	if !isNull(raw) && !isTrue(raw) && kindOf(raw) != 'f' {
		return false, invalid("wait, progress and again must be true or false")
	}
	return isTrue(raw), nil
}
