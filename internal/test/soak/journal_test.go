//go:build linux

package soak

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// event is a line of a worker's journal.
type event struct {
	At   instant `json:"at"`
	Kind kind    `json:"kind"`
	Stay int     `json:"stay,omitempty"` // of this worker; counts from 1

	Lock   string `json:"lock,omitempty"`   // asked
	ID     string `json:"id,omitempty"`     // entered
	Token  uint64 `json:"token,omitempty"`  // entered
	Reason string `json:"reason,omitempty"` // lost: of the loss
	// Lost: of the lease, when the loss was noticed.
	Left     time.Duration `json:"left,omitempty"`
	From     instant       `json:"from,omitempty"`     // stalled: since when
	Text     string        `json:"text,omitempty"`     // fault
	Released bool          `json:"released,omitempty"` // left: Unlock has said that all was well
}

// kind is what happened at an instant of a worker's life.
type kind string

const (
	asked   kind = "asked"   // a Lock or TryLock begins
	entered kind = "entered" // it has returned the lock
	held    kind = "held"    // the lock was held for sure
	refused kind = "refused" // a write was, though the session still vouches for the lock
	lost    kind = "lost"    // the loss was noticed
	left    kind = "left"    // Unlock has returned
	stalled kind = "stalled" // the process did not run for a while
	fault   kind = "fault"   // what must not be was seen
	ended   kind = "ended"   // everything was done, and the client is closed
)

// journal is a file of events that survives its writer: each is one write.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	return &journal{file: f}, err
}

func (j *journal) note(e event) {
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		panic(err)
	}
}

// stay is one tenure: what a worker did between a Lock and its Unlock.
type stay struct {
	worker string
	number int
	lock   string
	id     string
	token  uint64

	asked   instant
	entered instant
	held    span          // zero: not for any instant for sure
	refused instant       // a write, though the session vouched for the lock then
	reason  string        // of the loss; empty: none was noticed
	left    time.Duration // of the lease when it was noticed
	strict  bool          // the session vouches, not only its context
	ttl     time.Duration
}

func (s *stay) String() string {
	return fmt.Sprintf("%s/%d (lock %s, token %d, held %v to %v)", s.worker, s.number, s.lock,
		s.token, s.held.from, s.held.to)
}

// life is what a worker process has logged from its start to its end.
type life struct {
	stays    []*stay
	released int
	losses   int
	stalls   []span
	faults   []string
	ended    bool
}

// readJournal reads the journal of a worker, whose last line may be cut.
func readJournal(path string, c workerConfig) (*life, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return &life{}, nil // killed before it began
	}
	if err != nil {
		return nil, err
	}
	return parseJournal(text, c)
}

func parseJournal(text []byte, c workerConfig) (*life, error) {
	l := &life{}
	stays := map[int]*stay{}
	for lines := json.NewDecoder(bytes.NewReader(text)); ; {
		var e event
		switch err := lines.Decode(&e); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return l, nil
		case err != nil:
			return nil, err
		}
		s := stays[e.Stay]
		switch e.Kind {
		case asked:
			stays[e.Stay] = &stay{worker: c.Name, number: e.Stay, lock: e.Lock, asked: e.At,
				strict: c.Strict, ttl: c.TTL}
		case entered:
			s.id, s.token, s.entered = e.ID, e.Token, e.At
			l.stays = append(l.stays, s)
		case held:
			if s.held == (span{}) {
				s.held.from = e.At
			}
			s.held.to = e.At
		case refused:
			s.refused = e.At
		case lost:
			s.reason, s.left = e.Reason, e.Left
			l.losses++
		case left:
			delete(stays, e.Stay)
			if e.Released {
				l.released++
			}
		case stalled:
			l.stalls = append(l.stalls, span{e.From, e.At})
		case fault:
			l.faults = append(l.faults, fmt.Sprintf("%s/%d: %s", c.Name, e.Stay, e.Text))
		case ended:
			l.ended = true
		}
	}
}
