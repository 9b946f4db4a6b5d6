package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

func queuedLock(name string) store.NewLock {
	in := newLock(name)
	in.Waited = time.Second
	return in
}

// TestAHandOverIsHeardElsewhere in order, and done in one transaction.
func TestAHandOverIsHeardElsewhere(t *testing.T) {
	url := empty(t)
	s, other := open(t, url), open(t, url)
	ear := listen(t, other)
	held := create(t, s, newLock("robot-arm-1"))
	require.Equal(t, held, ear.until(store.EventCreated).Lock)
	noteTransactions(t, url)
	both, err := s.HandOver(t.Context(), held.ID, store.Ending{}, queuedLock("robot-arm-1"))
	require.NoError(t, err)
	require.Equal(t, held, both.Deleted)
	require.NoError(t, both.CreateErr)
	deleted := ear.next()
	require.Equal(t, store.EventDeleted, deleted.Kind)
	require.Equal(t, held, deleted.Lock)
	created := ear.next()
	require.Equal(t, store.EventCreated, created.Kind)
	require.Equal(t, both.Created, created.Lock)
	require.Equal(t, "DELETE, INSERT: 2 in 1", transactions(t, url))
}

// TestAHandOverLeavesTheNameToWhoWaitedLonger on another server: the lock is deleted, and it has
// the name.
func TestAHandOverLeavesTheNameToWhoWaitedLonger(t *testing.T) {
	url := empty(t)
	s, other := open(t, url), open(t, url)
	ear := listen(t, other)
	held := create(t, s, newLock("robot-arm-1"))
	elder := queuedLock("robot-arm-1")
	elder.Waited = 10 * time.Second
	_, err := other.Create(t.Context(), elder)
	require.ErrorIs(t, err, store.ErrHeld)
	both, err := s.HandOver(t.Context(), held.ID, store.Ending{}, queuedLock("robot-arm-1"))
	require.NoError(t, err)
	require.NoError(t, both.DeleteErr)
	require.Equal(t, held, both.Deleted)
	require.Equal(t, store.ErrHeld, both.CreateErr)
	require.Zero(t, both.Created)
	require.Equal(t, held, ear.until(store.EventDeleted).Lock)
	made := create(t, other, elder)

	both, err = other.HandOver(t.Context(), made.ID, store.Ending{}, queuedLock("robot-arm-1"))
	require.NoError(t, err)
	require.NoError(t, both.DeleteErr)
}

// TestAHandOverThatWaitsHasLockedNoRow: what it waits for may have to wait for the row.
func TestAHandOverThatWaitsHasLockedNoRow(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	for _, advisory := range []string{
		`SELECT pg_advisory_xact_lock(1919708012, hashtext('robot-arm-1'))`,
		`SELECT pg_advisory_xact_lock(1919708011, hashtext('` + mark + `'))`,
	} {
		held := create(t, s, newLock("robot-arm-1"))
		other := begin(t, url)
		other.exec(advisory)
		handed := make(chan store.Handover, 1)
		go func() {
			both, err := s.HandOver(context.Background(), held.ID, store.Ending{},
				marked("robot-arm-1", 0))
			if err != nil {
				t.Error(err)
			}
			handed <- both
		}()
		waits(t, url, "")
		other.exec(`SELECT FROM relukko_go.locks WHERE id = $1 FOR UPDATE NOWAIT`, held.ID)
		other.exec(`ROLLBACK`)
		both := <-handed
		require.Equal(t, held, both.Deleted)
		require.NoError(t, both.CreateErr)
		remove(t, s, both.Created.ID)
	}
}

// TestAHandOverThatIsNotCommitted did nothing, whatever its statements have answered.
func TestAHandOverThatIsNotCommitted(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	held := create(t, s, newLock("robot-arm-1"))
	sql(t, url, `CREATE FUNCTION relukko_go.refuse() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = '40001'; END $$;
		CREATE CONSTRAINT TRIGGER refused AFTER INSERT ON relukko_go.locks
			DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION relukko_go.refuse()`)
	_, err := s.HandOver(t.Context(), held.ID, store.Ending{}, queuedLock("robot-arm-1"))
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorContains(t, err, "not today")
	locks, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []store.Lock{held}, locks)
	sql(t, url, `DROP TRIGGER refused ON relukko_go.locks`)
	both, err := s.HandOver(t.Context(), held.ID, store.Ending{}, queuedLock("robot-arm-1"))
	require.NoError(t, err)
	require.NoError(t, both.CreateErr)
}

// TestTheAnswerToAHandOverIsLost down a line of which nobody but its first has tried for the name:
// each has it nevertheless, soon.
func TestTheAnswerToAHandOverIsLost(t *testing.T) {
	t.Parallel() // it waits, for the most part
	url := postgres.Database(t)
	p := through(t, url)
	n := startNode(t, p.url)
	require.Eventually(t, n.st.Listens, soon, time.Millisecond)
	held := n.create(t.Context(), "robot-arm-1", 0)
	line := []<-chan answer{n.queue(t.Context(), "robot-arm-1"),
		n.queue(t.Context(), "robot-arm-1")}
	next := func() {
		got := receive(t, line[0])
		line = append(line, n.queue(t.Context(), "robot-arm-1"))
		require.Equal(t, 201, got.Status)
		require.Greater(t, got.Token, held.Token)
		held, line = got, line[1:]
	}
	for lost := 0; lost < 3; {
		n.delete(held.ID)
		next()
		p.CutNext(raw(t, held.ID))
		switch status := n.do(context.Background(), "DELETE", "/v1/locks/"+held.ID, "",
			"").Status; status {
		case 503:
			lost++
		default: // it was another call about this lock
			require.Equal(t, 200, status)
		}
		next()
	}
	n.delete(held.ID)
	n.delete(receive(t, line[0]).ID)
	n.delete(receive(t, line[1]).ID)
	locks, err := n.st.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, locks, "none that nobody knows of")
}
