package pgstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// TestAReleaseWakesAWaiterElsewhere within a round trip or two.
func TestAReleaseWakesAWaiterElsewhere(t *testing.T) {
	nodes, _ := startNodes(t, 2)
	var took []time.Duration
	for range 30 {
		held := nodes[0].create(t.Context(), "robot-arm-1", 0)
		waiter := nodes[1].queue(t.Context(), "robot-arm-1")
		began := time.Now()
		nodes[0].delete(held.ID)
		got := receive(t, waiter)
		require.Equal(t, 201, got.Status)
		require.Greater(t, got.Token, held.Token)
		took = append(took, got.at.Sub(began))
		nodes[1].delete(got.ID)
	}
	fastest := took[0]
	for _, d := range took {
		fastest = min(fastest, d)
	}
	t.Log("fastest:", fastest, "all:", took)
	require.Less(t, fastest, 100*time.Millisecond,
		"a notification, not the look that is taken each second")
}

// TestFirstComeFirstServed across servers, whichever of them the lock is deleted through.
func TestFirstComeFirstServed(t *testing.T) {
	nodes, _ := startNodes(t, 3)
	held := nodes[0].create(t.Context(), "robot-arm-1", 0)
	at := nodes[0]
	const waiters = 12
	var line []<-chan answer
	var where []*node
	for i := range waiters {
		n := nodes[[]int{1, 0, 2, 2, 0, 1, 1, 1, 2, 0, 2, 0}[i]]
		line, where = append(line, n.queue(t.Context(), "robot-arm-1")), append(where, n)
		require.Eventually(t, func() bool { return noted(t, nodes, "robot-arm-1") }, soon,
			time.Millisecond)
	}
	overtaken := 0
	for len(line) > 0 {
		at.delete(held.ID)
		next := -1
		require.Eventually(t, func() bool {
			for i := range line {
				if len(line[i]) > 0 {
					next = i
				}
			}
			return next >= 0
		}, soon, time.Millisecond)
		held, at = <-line[next], where[next]
		require.Equal(t, 201, held.Status)
		// Of one line nobody is overtaken, of another at most by one who is noted already.
		for i := range next {
			require.NotEqual(t, where[next], where[i])
		}
		overtaken += next
		line, where = append(line[:next], line[next+1:]...), append(where[:next], where[next+1:]...)
	}
	at.delete(held.ID)
	t.Log("overtaken:", overtaken)
	require.LessOrEqual(t, overtaken, waiters, "each at most once")
}

// noted tells whether all servers that have waiters have said so in the database.
func noted(t *testing.T, nodes []*node, name string) bool {
	n := 0
	for _, node := range nodes {
		if node.waiters(name) > 0 {
			n++
		}
	}
	var have int
	query(t, nodes[0].url, &have, `SELECT count(*) FROM relukko_go.waiting WHERE name = $1`, name)
	return have >= n
}

// TestNobodyStarves: a line that never ends on one server does not keep the name from a waiter on
// another, nor do those who come again and again without waiting.
func TestNobodyStarves(t *testing.T) {
	nodes, _ := startNodes(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var rounds atomic.Int64
	for i := range 9 {
		n, wait := nodes[0], 30
		if i >= 6 {
			n, wait = nodes[1], 0
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				if got := n.create(context.Background(), "robot-arm-1", wait); got.Status == 201 {
					rounds.Add(1)
					n.delete(got.ID)
				}
			}
		})
	}
	var passed []int64
	for range 20 {
		before := rounds.Load()
		got := nodes[2].create(t.Context(), "robot-arm-1", 30)
		require.Equal(t, 201, got.Status)
		nodes[2].delete(got.ID)
		passed = append(passed, rounds.Load()-before)
	}
	t.Log("others meanwhile:", passed)
	for _, n := range passed {
		require.LessOrEqual(t, n, int64(300), "there are nine others")
	}
}

// TestWhoGaveUpHoldsUpNobody: a server whose waiter has gone says so when its turn comes.
func TestWhoGaveUpHoldsUpNobody(t *testing.T) {
	nodes, _ := startNodes(t, 2)
	for _, wait := range []int{0, 30} {
		t.Run(fmt.Sprint("wait=", wait), func(t *testing.T) {
			held := nodes[0].create(t.Context(), "robot-arm-1", 0)
			ctx, cancel := context.WithCancel(t.Context())
			gone := nodes[1].queue(ctx, "robot-arm-1")
			require.Eventually(t, func() bool { return noted(t, nodes, "robot-arm-1") }, soon,
				time.Millisecond)
			cancel()
			require.Equal(t, 503, receive(t, gone).Status)
			var next <-chan answer
			if wait > 0 {
				next = nodes[0].queue(t.Context(), "robot-arm-1")
			}
			began := time.Now()
			nodes[0].delete(held.ID)
			var got answer
			if wait > 0 {
				got = receive(t, next)
			} else {
				got = nodes[0].create(t.Context(), "robot-arm-1", 0)
			}
			require.Equal(t, 201, got.Status, "the name is free")
			t.Log(got.at.Sub(began))
			require.Less(t, got.at.Sub(began), 450*time.Millisecond,
				"sooner than its turn would have ended")
			nodes[0].delete(got.ID)
		})
	}
}

// TestAServerThatEndsHasNoTurn: its waiters are sent away, and it takes back what it has noted
// about them.
func TestAServerThatEndsHasNoTurn(t *testing.T) {
	url := empty(t)
	s, ending := open(t, url), open(t, url)
	held := create(t, s, newLock("robot-arm-1"))
	in := newLock("robot-arm-1")
	in.Waited = time.Second
	_, err := ending.Create(t.Context(), in)
	require.ErrorIs(t, err, store.ErrHeld)
	require.NoError(t, ending.Close())
	remove(t, s, held.ID)
	in = newLock("robot-arm-1")
	// A create that has waited does not wait for another's turn, it is refused.
	in.Waited = time.Microsecond
	create(t, s, in)
}

// TestADeadServerHasATurn that others wait for once, and then no more.
func TestADeadServerHasATurn(t *testing.T) {
	t.Parallel() // it waits, for the most part
	url := postgres.Database(t)
	n := startNodesOn(t, url, 1)[0]
	held := n.create(t.Context(), "robot-arm-1", 0)
	const note = `INSERT INTO relukko_go.waiting VALUES (
		'robot-arm-1', $1, clock_timestamp() - interval '20 s',
		clock_timestamp() + interval '20 s')`
	sql(t, url, note, 1)
	sql(t, url, note, 2)
	waiter := n.queue(t.Context(), "robot-arm-1")
	began := time.Now()
	n.delete(held.ID)
	got := receive(t, waiter)
	require.Equal(t, 201, got.Status)
	require.GreaterOrEqual(t, got.at.Sub(began), 900*time.Millisecond, "two turns of half a second")
	require.Less(t, got.at.Sub(began), 10*time.Second)
	n.delete(got.ID)
	var left int
	query(t, url, &left, `SELECT count(*) FROM relukko_go.waiting`)
	require.Zero(t, left)

	// What nobody asks for is swept.
	sql(t, url, `INSERT INTO relukko_go.waiting 
		VALUES ('robot-arm-2', 1, clock_timestamp(), clock_timestamp())`)
	_, err := n.st.Sweep(t.Context(), store.Limits{})
	require.NoError(t, err)
	query(t, url, &left, `SELECT count(*) FROM relukko_go.waiting`)
	require.Zero(t, left)
}

// TestATurnIsTaken in the order of waiting; that of one server does not depend on who asks first.
func TestATurnIsTaken(t *testing.T) {
	stores, _ := openThree(t)
	waited := func(d time.Duration) store.NewLock {
		in := newLock("robot-arm-1")
		in.Waited = d
		return in
	}
	held := create(t, stores[0], newLock("robot-arm-1"))
	for i, d := range []time.Duration{2 * time.Second, 9 * time.Second, 5 * time.Second} {
		_, err := stores[i].Create(t.Context(), waited(d))
		require.ErrorIs(t, err, store.ErrHeld)
	}
	remove(t, stores[0], held.ID)
	for _, i := range []int{0, 2, 0} {
		_, err := stores[i].Create(
			t.Context(), waited([]time.Duration{2 * time.Second, 0, 5 * time.Second}[i]))
		require.ErrorIs(t, err, store.ErrHeld, "it is the turn of the second")
	}
	held = create(t, stores[1], waited(9*time.Second))
	remove(t, stores[1], held.ID)
	_, err := stores[1].Create(t.Context(), waited(time.Second))
	require.ErrorIs(t, err, store.ErrHeld, "its next in line has not waited as long")
	held = create(t, stores[2], waited(5*time.Second))
	remove(t, stores[2], held.ID)
	held = create(t, stores[0], waited(2*time.Second))
	remove(t, stores[0], held.ID)
	create(t, stores[1], waited(time.Second))
}

// TestRanksBeyondTheTimeWaited: with a priority a waiter may have waited since long ago, or since
// some time in the future.
func TestRanksBeyondTheTimeWaited(t *testing.T) {
	stores, url := openThree(t)
	waited := func(d time.Duration) store.NewLock {
		in := newLock("robot-arm-1")
		in.Waited = d
		return in
	}
	const most = 30*24*time.Hour + 100*time.Minute
	order := []time.Duration{most, -time.Minute, -100 * time.Minute}
	held := create(t, stores[2], newLock("robot-arm-1"))
	tryAll := func() {
		for i, d := range order {
			_, err := stores[i].Create(t.Context(), waited(d))
			require.ErrorIs(t, err, store.ErrHeld)
		}
	}
	tryAll()
	var notes int
	query(t, url, &notes, `SELECT count(*) FROM relukko_go.waiting`)
	require.Equal(t, 3, notes)
	for i, d := range order {
		remove(t, stores[2], held.ID)
		for j := len(order) - 1; j > i; j-- {
			_, err := stores[j].Create(t.Context(), waited(order[j]))
			require.ErrorIs(t, err, store.ErrHeld, "the other has waited longer")
		}
		held = create(t, stores[i], waited(d))
	}

	// One that does not wait comes before a waiter whose time has not come.
	_, err := stores[0].Create(t.Context(), waited(-time.Minute))
	require.ErrorIs(t, err, store.ErrHeld)
	remove(t, stores[2], held.ID)
	held = create(t, stores[1], newLock("robot-arm-1"))

	// The first waiter of a server can be another one than before, with an earlier beginning.
	_, err = stores[1].Create(t.Context(), waited(time.Minute))
	require.ErrorIs(t, err, store.ErrHeld)
	_, err = stores[0].Create(t.Context(), waited(time.Hour))
	require.ErrorIs(t, err, store.ErrHeld)
	remove(t, stores[2], held.ID)
	_, err = stores[1].Create(t.Context(), waited(time.Minute))
	require.ErrorIs(t, err, store.ErrHeld)
	create(t, stores[0], waited(time.Hour))
}

// TestNotesAreRenewed while the waiters may be waiting, for however long.
func TestNotesAreRenewed(t *testing.T) {
	url := empty(t)
	s, other := open(t, url), open(t, url)
	held := create(t, s, newLock("robot-arm-1"))
	in := newLock("robot-arm-1")
	in.Waited = time.Minute
	_, err := s.Create(t.Context(), in)
	require.ErrorIs(t, err, store.ErrHeld)
	sql(t, url, `UPDATE relukko_go.waiting SET until = clock_timestamp() + interval '1 second'`)
	other.RenewNotes()
	s.RenewNotes()
	var left time.Duration
	query(t, url, &left, `SELECT until - clock_timestamp() FROM relukko_go.waiting`)
	require.Greater(t, left, 40*time.Second-soon)
	remove(t, s, held.ID)
	in.ID, in.Waited = newID(), time.Second
	_, err = other.Create(t.Context(), in)
	require.ErrorIs(t, err, store.ErrHeld, "it is the turn of the first")
}
