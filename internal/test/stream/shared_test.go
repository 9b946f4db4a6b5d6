//go:build linux

package stream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// acquireFor is an acquire with that number and mark.
func acquireFor(n uint64, name, mark string, more ...string) string {
	return fmt.Sprintf(`{"n":%d,"acquire":{"lock_names":[%q],"creator":"raw #%s","lease":60%s}}`,
		n, name, mark, strings.Join(append([]string{""}, more...), ","))
}

const waits, again = `"wait":true`, `"again":true`

// TestTwoServersOnOneDatabase finds and cancels marks through either of two servers, and counts the
// waiters of both.
func TestTwoServersOnOneDatabase(t *testing.T) {
	parallel(t)
	url := postgres.Database(t)
	a, b := serve(t, url), serve(t, url)
	const name, mark, other = "robot-arm-1", "k3v5x2m4q7ab", "k3v5x2m4q7ac"

	onA := openRaw(t, a.url)
	first := onA.ask(1, acquireFor(1, name, mark))
	require.Equal(t, wire.MessageLock, first.Kind, first.Err.Message)
	onA.cut()
	onB := openRaw(t, b.url)
	found := onB.ask(1, acquireFor(1, name, mark, again))
	require.Equal(t, first.Lock.ID, found.Lock.ID, "a mark is found through the other server")
	require.Zero(t, found.Seen)

	onA = openRaw(t, a.url)
	require.NoError(t, onA.write(t.Context(), acquireFor(1, name, other, waits)))
	client := newClient(t, b.url)
	waiter := lockSoon(t, client, name)
	began := time.Now()
	for _, n := range []*node{a, b} {
		awaitWaiters(t, n.url, name, 2)
		await(t, "2 wait", func() bool { return waitersOf(t, n.url, name) == 2 })
	}
	counted := time.Since(began)
	require.Less(t, counted, 2500*time.Millisecond)

	done := onB.ask(2, fmt.Sprintf(`{"n":2,"cancel":%q}`, other))
	require.Equal(t, wire.MessageDone, done.Kind, done.Err.Message)
	require.Equal(t, 410, onA.answer(1).Err.Status, "a mark is cancelled through the other server")
	done = onA.ask(2, fmt.Sprintf(`{"n":2,"cancel":%q}`, mark))
	require.Equal(t, wire.MessageDone, done.Kind, done.Err.Message)
	waiter.unlock(t)
	refused := onB.ask(3, acquireFor(3, name, mark, again))
	require.Equal(t, 410, refused.Err.Status)
	fmt.Printf("%s: waiters of both counted after %v\n", t.Name(), counted.Round(time.Millisecond))
}

// TestWantedFromTheOtherServer has a holder learn of a waiter that is on another server.
func TestWantedFromTheOtherServer(t *testing.T) {
	parallel(t)
	url := postgres.Database(t)
	a, b := serve(t, url), serve(t, url)
	holder := lockSoon(t, newClient(t, a.url), "robot-arm-1")
	holder.wait(t)
	s, _ := relukko.FromContext(holder.held)
	waiter := lockSoon(t, newClient(t, b.url), "robot-arm-1")
	began := time.Now()
	select {
	case <-s.Wanted():
	case <-time.After(patience):
		t.Error("the holder is not told")
	}
	fmt.Printf("%s: after %v\n", t.Name(), time.Since(began).Round(time.Millisecond))
	holder.unlock(t)
	waiter.unlock(t)
}

// waitersOf returns how many wait for the lock of a name, as the lock says.
func waitersOf(t testing.TB, url, name string) int {
	t.Helper()
	a, err := request(t.Context(), http.DefaultClient, "GET",
		url+"/v1/locks/?waiters=1&lock_name="+name, "")
	require.NoError(t, err)
	var locks []struct{ Waiters int }
	require.NoError(t, json.Unmarshal([]byte(a.body), &locks), a.body)
	if len(locks) == 0 {
		return -1
	}
	return locks[0].Waiters
}

// TestStepOfTheDatabasesClockLosesNothing sets the clock of the database forward by 10 min, and
// later back.
func TestStepOfTheDatabasesClockLosesNothing(t *testing.T) {
	parallel(t)
	url := postgres.Database(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(t.Context()) })
	exec := func(sql string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	// What the servers find first is not the database's own function.
	exec(`CREATE SCHEMA skew;
		CREATE TABLE skew.step (by interval);
		INSERT INTO skew.step VALUES ('0');
		CREATE FUNCTION skew.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
			'SELECT pg_catalog.clock_timestamp() + by FROM skew.step'`)
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	n := serve(t, url+separator+"search_path=skew,pg_catalog")
	c := newClient(t, n.url)
	h := hold(t, 20, func() *api.Client { return c }, relukko.WithTTL(3*time.Second))
	waiter := lockSoon(t, newClient(t, n.url), "held-0", relukko.WithTTL(3*time.Second))
	step := func(by string) {
		t.Helper()
		exec(`UPDATE skew.step SET by = '` + by + `'`)
		pause(scaled(2*time.Second, 20*time.Second))
		lock, err := c.Find(t.Context(), "held-1")
		require.NoError(t, err)
		var skewed time.Time
		row := conn.QueryRow(t.Context(), `SELECT skew.clock_timestamp()`)
		require.NoError(t, row.Scan(&skewed))
		require.InDelta(t, 0, lock.ExpiresAt.Sub(skewed).Seconds(), 4, "renewed by the other clock")
	}
	step("10 min")
	step("0")
	h.release(t)
	waiter.unlock(t)
}
