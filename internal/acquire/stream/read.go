package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/relukko/relukko-go/internal/sockets"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

var errBye = errors.New("the server is shutting down")

// serve uses a connection until it ends, and returns the reason.
func (s *stream) serve(l *link) error {
	l.flush()
	for {
		select {
		case err := <-l.failed:
			return err
		case <-l.wake:
		}
		for reading := l.startReading(); reading; reading = l.readsOn() {
			if err := s.readOne(l); err != nil {
				return err
			}
		}
	}
}

// lead reads for a caller for which [link.lead] has returned true. It returns when isOver reports
// true, when ctx ends or the client closes, or when the connection has ended. A timer that has
// isOver report true calls l.interrupt.
func (s *stream) lead(ctx context.Context, l *link, isOver func() bool) {
	defer context.AfterFunc(ctx, l.interrupt)()
	open := s.tasks.Open()
	for !isOver() && ctx.Err() == nil && open.Err() == nil {
		if err := s.readOne(l); err != nil {
			l.failed <- err
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopReading()
}

// readOne reads and handles a message, unless it is interrupted. After an error the connection has
// ended.
func (s *stream) readOne(l *link) error {
	frame, err := l.conn.Read()
	l.late.Clear()
	switch {
	case errors.Is(err, sockets.ErrInterrupted):
		return nil
	case errors.Is(err, sockets.ErrMessage):
		return nonsense{err}
	case err != nil:
		return err
	}
	if err = s.handle(l, frame); err != nil {
		l.cut(err)
		s.discard(l.conn)
		return err
	}
	l.flushInBackground()
	return nil
}

// discard ends a connection.
func (s *stream) discard(conn sockets.Conn) {
	conn.Cut()
	for {
		if _, err := conn.Read(); err != nil && !errors.Is(err, sockets.ErrInterrupted) {
			return
		}
	}
}

// handle handles a message. An error means that the connection must end.
func (s *stream) handle(l *link, frame []byte) error {
	m := &l.message
	var err error
	if *m, err = wire.ParseStreamMessage(frame); err != nil {
		return nonsense{fmt.Errorf("the server sent a message that makes no sense: %w", err)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard, l.overdue = time.Now(), false
	switch {
	case m.N > l.n:
		return nonsense{fmt.Errorf("the server answered request %d, which was never sent", m.N)}
	case m.N > 0:
		l.answered, s.noStream, s.awayFor = s.heard, 0, 0
		return s.answered(l, m)
	case m.Kind == wire.MessageDeleted:
		s.aboutLock(m.Lock.ID, true, false)
	case m.Kind == wire.MessageWanted:
		s.aboutLock(m.ID, false, m.Waiters > 0)
	case m.Kind == wire.MessageBye:
		return errBye
	case m.Kind == wire.MessageError:
		return s.sockets.Refusal("keep the stream", false, &m.Err)
	}
	return nil
}

// aboutLock passes on that a lock was deleted, or else whether it is wanted.
func (s *stream) aboutLock(id string, deleted, wanted bool) {
	w, watched := s.watches[id]
	e, ours := s.held[id]
	switch {
	case watched && deleted:
		w.Check()
	case watched:
		w.Wanted(wanted)
	case ours:
		s.held[id] = early{e.deleted || deleted, wanted}
	}
}

// answered handles the answer to a request. A grant for an acquire that is over is released, unless
// it is one that the client has.
func (s *stream) answered(l *link, m *wire.StreamMessage) error {
	if r := l.open[m.N]; r != nil && m.Kind != wire.MessageUnknown {
		last, err := r.receive(l, m)
		if last {
			delete(l.open, m.N)
		}
		if err != nil {
			return nonsense{err}
		}
		return nil
	}
	for _, lock := range locksOf(m) {
		if _, ours := s.held[lock.ID]; !ours {
			l.request(&wire.StreamRequest{Kind: wire.RequestRelease, ID: lock.ID}, ignored{})
		}
	}
	return nil
}
