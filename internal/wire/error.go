package wire

import (
	"errors"
	"net/http"
	"strconv"
)

// ErrKeyMayChange is what errors.Is finds in an api.Error by which the backend refuses the API key
// of a client that may have another one later.
var ErrKeyMayChange = errors.New("relukko: the API key may change")

// AppendError appends the body of an answer that refuses or fails a request.
// holder is the lock that holds the name, for a 409; nil: unknown.
func AppendError(b []byte, status int, message string, holder *Lock) []byte {
	b = append(b, `{"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, `,"message":`...)
	b = appendString(b, message)
	if holder != nil {
		b = append(b, `,"lock":`...)
		b = AppendLock(b, holder)
	}
	return append(b, '}')
}

// ErrorBody is what the body of an answer says that refuses or fails a request.
type ErrorBody struct {
	Message string // all of the body where it is not the backend's
	Holder  *Lock  // of a 409, where it is said

	// Own: the body is the backend's own and not that of something before it, a
	// proxy for example. It is a JSON object with exactly the members "status"
	// (a number equal to the HTTP status), "message" (a string) and, perhaps,
	// "lock" (an object).
	Own bool
}

// DecodeError reads the body of an answer with that HTTP status. Message is as
// the other side has written it: see [Printable].
func DecodeError(status int, body []byte) ErrorBody {
	e := ErrorBody{Message: string(body)}
	s := scan(body)
	var rawStatus, rawMessage, rawLock []byte
	count := s.fields(field{"status", &rawStatus}, field{"message", &rawMessage},
		field{"lock", &rawLock})
	message, ok := text(rawMessage)
	if !ok || !s.end() {
		return e
	}
	e.Message = message
	if status == http.StatusConflict && rawLock != nil {
		e.Holder = holderOf(rawLock)
	}
	want := 2
	if kindOf(rawLock) == '{' {
		want = 3
	}
	n, err := strconv.ParseFloat(string(rawStatus), 64)
	e.Own = err == nil && n == float64(status) && count == want
	return e
}

// holderOf returns the lock in raw; nil if it is none.
func holderOf(raw []byte) *Lock {
	s := scan(raw)
	holder, err := s.lock(&Lock{})
	if err != nil {
		return nil
	}
	return &holder
}
