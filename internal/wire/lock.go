package wire

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Lock is a lock as it goes over the wire. Its times are in UTC.
type Lock struct {
	ID        string // a UUID in lower case
	Name      string
	Creator   *string // nil: null
	IP        string  // the creator's, as the backend saw it; "" where it does not say
	ExpiresAt time.Time
	CreatedAt time.Time
	UpdatedAt time.Time

	FencingToken uint64 // 0: the lock has no such member
	Owner        string // the name of the key that created it; "": the lock has no such member
	Waiters      int    // the number of requests that queue for the name
	HasWaiters   bool   // false: the lock has no member for them
}

// AppendLock appends l in JSON. Its strings must be valid UTF-8.
func AppendLock(b []byte, l *Lock) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, l.ID)
	b = append(b, `,"lock_name":`...)
	b = appendString(b, l.Name)
	b = append(b, `,"creator":`...)
	b = appendStringOrNull(b, l.Creator)
	b = append(b, `,"ip":`...)
	b = appendString(b, l.IP)
	b = append(b, `,"expires_at":`...)
	b = appendTime(b, l.ExpiresAt)
	b = append(b, `,"created_at":`...)
	b = appendTime(b, l.CreatedAt)
	b = append(b, `,"updated_at":`...)
	b = appendTime(b, l.UpdatedAt)
	if l.FencingToken != 0 {
		b = append(b, `,"fencing_token":`...)
		b = strconv.AppendUint(b, l.FencingToken, 10)
	}
	if l.Owner != "" {
		b = append(b, `,"owner":`...)
		b = appendString(b, l.Owner)
	}
	if l.HasWaiters {
		b = append(b, `,"waiters":`...)
		b = strconv.AppendInt(b, int64(l.Waiters), 10)
	}
	return append(b, '}')
}

var (
	errNotJSON   = errors.New("it is not JSON")
	errNotObject = errors.New("it is not a JSON object")
	errNotArray  = errors.New("it is not a JSON array")
)

// DecodeLock returns the lock in body. Where a string of it is equal to that
// of like, which it is expected to resemble, it is that of like and costs no
// memory. The errors begin with "it" or "its" and are fit to be printed.
//
// A lock has at least a UUID, a name and three RFC 3339 times. Other members
// are ignored; of those that come twice the last one counts.
func DecodeLock(body []byte, like *Lock) (Lock, error) {
	if len(body) == 0 {
		return Lock{}, errors.New("it is empty")
	}
	s := scan(body)
	l, err := s.lock(like)
	if !s.end() {
		return Lock{}, errNotJSON
	}
	return l, err
}

// DecodeLocks calls add for each lock in body, a JSON array. The lock that add
// gets is valid until it returns; its strings stay. One element that is no
// lock makes all of body an error, also after calls of add.
func DecodeLocks(body []byte, add func(*Lock)) error {
	s := scan(body)
	err := s.locks(add)
	if !s.end() {
		return errNotJSON
	}
	return err
}

// locks reads an array of locks, as [DecodeLocks] does.
func (s *scanner) locks(add func(*Lock)) (err error) {
	if !s.array() {
		return errNotArray
	}
	var last Lock
	for n := 0; s.element(); n++ {
		if err != nil {
			s.value()
			continue
		}
		if last, err = s.lock(&last); err != nil {
			err = fmt.Errorf("element %d is not a lock: %w", n, err)
			continue
		}
		add(&last)
	}
	return err
}

// lock reads a lock, as [DecodeLock] does. Whether it is JSON the caller finds out at the end.
func (s *scanner) lock(like *Lock) (Lock, error) {
	var id, name, creator, ip, expires, created, updated, token, owner, waiters []byte
	count := s.fields(field{"id", &id}, field{"lock_name", &name}, field{"creator", &creator},
		field{"ip", &ip}, field{"expires_at", &expires}, field{"created_at", &created},
		field{"updated_at", &updated}, field{"fencing_token", &token}, field{"owner", &owner},
		field{"waiters", &waiters})
	if count < 0 {
		return Lock{}, errNotObject
	}
	var l Lock
	var err error
	if l.ID, err = idOf(id, like.ID); err != nil {
		return Lock{}, err
	}
	var ok bool
	if l.Name, ok = textLike(name, like.Name); !ok || l.Name == "" {
		return Lock{}, errors.New("its lock_name is missing, empty or not a string")
	}
	if l.Creator, ok = creatorOf(creator, like.Creator); !ok {
		return Lock{}, errors.New("its creator is neither null nor a string")
	}
	if l.IP, ok = textLike(ip, like.IP); !ok && !isNull(ip) {
		return Lock{}, errors.New("its ip is neither null nor a string")
	}
	if l.ExpiresAt, ok = timeOf(expires); !ok {
		return Lock{}, errTime("expires_at", expires)
	}
	if l.CreatedAt, ok = timeOf(created); !ok {
		return Lock{}, errTime("created_at", created)
	}
	if l.UpdatedAt, ok = timeOf(updated); !ok {
		return Lock{}, errTime("updated_at", updated)
	}
	if l.FencingToken, ok = tokenOf(token); !ok {
		return Lock{}, fmt.Errorf("its fencing_token is not a positive integer: %s", excerpt(token))
	}
	if l.Owner, ok = textLike(owner, like.Owner); !ok && !isNull(owner) {
		return Lock{}, errors.New("its owner is neither null nor a string")
	}
	l.Waiters, l.HasWaiters = waitersOf(waiters)
	return l, nil
}

func errTime(member string, raw []byte) error {
	return fmt.Errorf("its %s is not an RFC 3339 time: %s", member, excerpt(raw))
}

func idOf(raw []byte, like string) (string, error) {
	text := decoded(raw)
	if like != "" && string(text) == like {
		return like, nil
	}
	if id, ok := ParseID(string(text)); ok {
		return id, nil
	}
	return "", fmt.Errorf("its id is not a UUID: %s", excerpt(raw))
}

func creatorOf(raw []byte, like *string) (*string, bool) {
	if isNull(raw) {
		return nil, true
	}
	if inner, ok := plain(raw); ok && like != nil && string(inner) == *like {
		return like, true
	}
	s, ok := text(raw)
	return &s, ok
}

// waitersOf is for information only, so what is no number counts as missing.
func waitersOf(raw []byte) (n int, ok bool) {
	if isNull(raw) {
		return 0, false
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil || n < 0 {
		return 0, false
	}
	return n, true
}

func tokenOf(raw []byte) (uint64, bool) {
	if isNull(raw) {
		return 0, true
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	return n, err == nil && n > 0
}
