package backup

import (
	"fmt"
	"io"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// Summary is how much content there is.
type Summary struct {
	At                  time.Time
	Locks, Marks, Ended int
}

// String returns it for people.
func (s *Summary) String() string {
	return fmt.Sprintf("%d locks, %d cancelled marks and a history of %d, as they were at %s",
		s.Locks, s.Marks, s.Ended, s.At.Format(time.RFC3339))
}

// Summarize returns the summary of the content. Ended rises while the History is read.
func Summarize(c *store.Content) *Summary {
	s := &Summary{At: c.At, Locks: len(c.Locks), Marks: len(c.Marks)}
	history := c.History
	c.History = func(yield func(store.Ended, error) bool) {
		for e, err := range history {
			if err == nil {
				s.Ended++
			}
			if !yield(e, err) {
				return
			}
		}
	}
	return s
}

// Check reads a backup to its end, and returns its summary if it is whole.
func Check(r io.Reader) (*Summary, error) {
	c, err := Read(r)
	if err != nil {
		return nil, err
	}
	s := Summarize(c)
	for _, err := range c.History {
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}
