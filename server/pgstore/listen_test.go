package pgstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// TestOthersHear of everything, in order and whole; no store hears of itself.
func TestOthersHear(t *testing.T) {
	t.Parallel()
	stores, _ := openThree(t)
	// A counts the others as it begins to listen.
	a, other, self := stores[0], listen(t, stores[1]), listen(t, stores[0])

	creator := `<bench-7> "✓" \ #k3v5x2m4q7ab`
	in := newLock("robot-arm-1")
	in.Creator, in.Mark = &creator, "k3v5x2m4q7ab"
	lock := create(t, a, in)
	require.Equal(t, store.Event{Kind: store.EventCreated, Lock: lock}, other.next())
	lease := time.Hour
	lock, err := a.Update(t.Context(), lock.ID, store.Change{Lease: &lease})
	require.NoError(t, err)
	require.Equal(t, store.Event{Kind: store.EventUpdated, Lock: lock}, other.next())
	_, err = a.Cancel(t.Context(), owner, in.Mark)
	require.NoError(t, err)
	require.Equal(t, store.Event{Kind: store.EventCancelled, Mark: in.Mark,
		Lock: store.Lock{Owner: owner}}, other.next())
	require.Equal(t, store.Event{Kind: store.EventDeleted, Lock: lock}, other.next())

	for i := range 300 { // more than one notification holds
		in := newLock(fmt.Sprint("lock ", i))
		in.TTL = -time.Hour
		create(t, a, in)
		require.Equal(t, in.ID, other.until(store.EventCreated).Lock.ID)
	}
	swept := 0
	for swept < 300 {
		some, err := a.Sweep(t.Context(), store.Limits{})
		require.NoError(t, err)
		for _, lock := range some.Locks {
			require.Equal(t, store.Event{Kind: store.EventDeleted, Lock: lock}, other.next())
		}
		swept += len(some.Locks)
	}

	lock = create(t, stores[1], newLock("robot-arm-1"))
	require.Equal(t, store.Event{Kind: store.EventCreated, Lock: lock}, self.next(),
		"the first that it has not done itself")
	require.Empty(t, other.events)
}

// TestTheConnectionIsLost on which a store listens: that is said, and events are heard again.
func TestTheConnectionIsLost(t *testing.T) {
	t.Parallel()
	stores, url := openThree(t)
	var log logged
	stores[1] = openWithLog(t, url, slog.New(slog.NewTextHandler(&log, nil)))
	other := listen(t, stores[1])
	for range 3 {
		sql(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()
			AND query NOT LIKE '%relukko_go.%'`)
		for other.next().Kind != store.EventMissed {
		}
		lock := create(t, stores[0], newLock("robot-arm-1"))
		require.Equal(t, lock, other.until(store.EventCreated).Lock)
		remove(t, stores[0], lock.ID)
		require.Equal(t, lock, other.until(store.EventDeleted).Lock)
	}
	require.Equal(t, 3, strings.Count(log.String(), "can't be heard"), "%s", &log)
	require.Equal(t, 4, strings.Count(log.String(), "are heard"), "%s", &log)
}

// logged is a log that several goroutines write.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestANotificationIsLost: a lock that stands in somebody's way, and is deleted behind all servers'
// backs, is missed soon.
func TestANotificationIsLost(t *testing.T) {
	t.Parallel() // it waits, for the most part
	url := postgres.Database(t)
	stores := openThreeOn(t, url)
	other := listen(t, stores[1])
	held := create(t, stores[0], newLock("robot-arm-1"))
	kept := create(t, stores[0], newLock("robot-arm-2"))
	for _, lock := range []store.Lock{held, kept} {
		holder, err := stores[1].Create(t.Context(), newLock(lock.Name))
		require.ErrorIs(t, err, store.ErrHeld)
		require.Equal(t, lock, holder)
	}
	sql(t, url, `DELETE FROM relukko_go.locks WHERE id = $1`, held.ID)
	require.Equal(t, store.Event{Kind: store.EventDeleted, Lock: held},
		other.until(store.EventDeleted))
	remove(t, stores[0], kept.ID)
	require.Equal(t, kept, other.until(store.EventDeleted).Lock)
	remove(t, stores[0], create(t, stores[0], newLock("end")).ID)
	require.Equal(t, "end", other.until(store.EventDeleted).Lock.Name, "each was said once")
}

// TestNonsenseIsHeard: whatever it meant, something may have been missed.
func TestNonsenseIsHeard(t *testing.T) {
	stores, url := openThree(t)
	other := listen(t, stores[1])
	for _, payload := range []string{"", "nonsense", "-3e\n{",
		"-3e\n" + `{"k":"deleted"` + "\n" + `{"k":[]}`} {
		sql(t, url, `SELECT pg_notify('relukko_go', $1)`, payload)
		require.Equal(t, store.EventMissed, other.next().Kind, payload)
	}
	sql(t, url, `SELECT pg_notify('relukko_go', $1)`,
		"-3e\n"+`{"k":"of a later version","x":1}`+"\n"+`{"k":"free","n":"robot-arm-1"}`)
	require.Equal(t, store.Event{Kind: store.EventFree, Lock: store.Lock{Name: "robot-arm-1"}},
		other.next())
}

// TestTooMuchToTell becomes one word.
func TestTooMuchToTell(t *testing.T) {
	stores, _ := openThree(t)
	other := listen(t, stores[1])
	ip := make([]byte, 8000)
	for i := range ip {
		ip[i] = 'x'
	}
	in := newLock("robot-arm-1")
	in.IP = string(ip)
	create(t, stores[0], in)
	require.Equal(t, store.Event{Kind: store.EventMissed}, other.next())

	for range 20_001 {
		stores[0].Tell(store.Event{Kind: store.EventUpdated})
	}
	last := store.Event{Kind: store.EventCancelled, Mark: "last"}
	stores[0].Tell(last)
	for e := other.next(); e.Mark != "last"; e = other.next() {
		require.Contains(t, []store.EventKind{store.EventUpdated, store.EventMissed}, e.Kind)
		if e.Kind == store.EventMissed {
			stores[0].Tell(last) // it may be among those that were missed
		}
	}
}

// TestWhoIsAloneNotifiesNobody until another server listens, which is told that it may have missed
// something.
func TestWhoIsAloneNotifiesNobody(t *testing.T) {
	stores, url := openThree(t)
	require.True(t, stores[0].Heeded(), "before it knows better")
	listen(t, stores[0])
	require.False(t, stores[0].Heeded())
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "LISTEN relukko_go")
	require.NoError(t, err)
	create(t, stores[0], newLock("robot-arm-1"))

	other := listen(t, stores[1])
	require.Eventually(t, stores[0].Heeded, soon, time.Millisecond)
	require.True(t, stores[1].Heeded())
	require.Equal(t, store.Event{Kind: store.EventMissed}, other.next())
	lock := create(t, stores[0], newLock("robot-arm-2"))
	require.Equal(t, lock, other.next().Lock)
	for told := ""; !strings.Contains(told, "robot-arm-2"); {
		n, err := conn.WaitForNotification(t.Context())
		require.NoError(t, err)
		told = n.Payload
		require.NotContains(t, told, "robot-arm-1")
	}
}

// TestCloseEndsWatch and tells the others first what they have not heard.
func TestCloseEndsWatch(t *testing.T) {
	stores, url := openThree(t)
	other := listen(t, stores[1])
	s := open(t, url)
	ended := make(chan error, 1)
	listening := make(chan struct{}, 1)
	go func() {
		ended <- s.Watch(t.Context(), func(store.Event) { listening <- struct{}{} })
	}()
	<-listening
	lock := create(t, s, newLock("robot-arm-1"))
	require.NoError(t, s.Close())
	require.ErrorContains(t, <-ended, "closed")
	require.Equal(t, lock, other.until(store.EventCreated).Lock)
	_, err := s.Get(t.Context(), lock.ID)
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, s.Ping(t.Context()), store.ErrUnavailable)
}
