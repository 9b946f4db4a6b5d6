package wire

import (
	"io"
	"time"
)

// The stream is a WebSocket at StreamPath. A client sends a [StreamRequest] in each text frame, the
// server a [StreamMessage].
const (
	StreamPath     = "/v1/stream"
	StreamProtocol = "relukko.stream.v1" // the WebSocket's subprotocol
	MaxFrame       = 64 << 10            // bytes of a request
	MaxAnswer      = 512 << 10           // bytes of a message of the server: MaxNames locks fit
)

// ReadAll is [io.ReadAll] into b.
func ReadAll(r io.Reader, b []byte) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// FeatureAll is the feature of a server that has RequestAcquireAll.
const FeatureAll = "all"

// Limits of an acquire on the stream. The lease is limited by [MinLease] and [MaxLease].
const (
	MaxNames    = 100
	MaxPriority = 10 // the least is its negative
	MaxWaited   = 30 * 24 * time.Hour
)

// indexOf returns the index of name in names, whose first element stands for any other name; 0 if
// it is not there.
func indexOf(names []string, name []byte) int {
	for i := 1; i < len(names); i++ {
		if string(name) == names[i] {
			return i
		}
	}
	return 0
}

// theKind returns the index of the one value after the first in raw that is there and not null;
// 0 for none. ok is false if there are several.
func theKind(raw [][]byte) (kind int, ok bool) {
	for i := 1; i < len(raw); i++ {
		if isNull(raw[i]) {
			continue
		}
		if kind != 0 {
			return kind, false
		}
		kind = i
	}
	return kind, true
}

func isTrue(raw []byte) bool { return kindOf(raw) == 't' }

// numberOf returns the number of a request, a positive integer below 2^53.
func numberOf(raw []byte) (uint64, bool) {
	n, ok := integerOf(raw)
	if !ok || n <= 0 {
		return 0, false
	}
	return uint64(n), true
}
