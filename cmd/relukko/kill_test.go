//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
)

// ledger records what one client knows of its locks. No other client uses its names.
type ledger struct {
	held map[string]string // name to id: acknowledged, and no delete was sent since
	// open is the same: found there, but a request to a killed server can still end it.
	open    map[string]string
	deleted map[string]bool   // by id: acknowledged
	made    map[string]bool   // by id: acknowledged, or seen
	tokens  map[string]uint64 // by name: the largest so far
	acks    int
	enough  atomic.Bool // no more requests shall be made
}

func newLedger() *ledger {
	return &ledger{held: map[string]string{}, open: map[string]string{}, deleted: map[string]bool{},
		made: map[string]bool{}, tokens: map[string]uint64{}}
}

// work creates and deletes locks until enough is set or a request fails because the
// server or its database was killed.
func (l *ledger) work(ctx context.Context, c *api.Client, who int) error {
	for !l.enough.Load() {
		name := fmt.Sprint("lock-", who, "-", rand.IntN(5))
		if id := l.held[name] + l.open[name]; id != "" {
			open := l.open[name] != ""
			delete(l.held, name) // from here on it may be gone
			delete(l.open, name)
			_, err := c.Delete(ctx, id)
			if err != nil && !(open && errors.Is(err, api.ErrGone)) {
				return nil
			}
			l.deleted[id] = true
			l.acks++
			continue
		}
		lock, err := c.Create(ctx, name, "kill test")
		if err != nil {
			return nil
		}
		if lock.FencingToken <= l.tokens[name] {
			return fmt.Errorf("%s: token %d after %d", name, lock.FencingToken, l.tokens[name])
		}
		l.held[name], l.tokens[name] = lock.ID, lock.FencingToken
		l.made[lock.ID] = true
		l.acks++
	}
	return nil
}

// compare checks the locks of the backend against what was acknowledged, and records
// those with an unknown outcome.
func (l *ledger) compare(t *testing.T, c *api.Client, who int) {
	t.Helper()
	locks, err := c.List(t.Context())
	require.NoError(t, err)
	there := map[string]string{}
	for _, lock := range locks {
		if strings.HasPrefix(lock.Name, fmt.Sprint("lock-", who, "-")) {
			there[lock.Name] = lock.ID
			l.made[lock.ID] = true
			require.False(t, l.deleted[lock.ID], "lock %s was deleted, and is back", lock.ID)
			require.GreaterOrEqual(t, lock.FencingToken, l.tokens[lock.Name])
			l.tokens[lock.Name] = lock.FencingToken
		}
	}
	for name, id := range l.held {
		require.Equal(t, id, there[name], "lock %s was acknowledged, and is missing", id)
	}
	l.compareHistory(t, c, who, there)
	l.open = there
	for name := range l.held {
		delete(l.open, name)
	}
}

// compareHistory checks that each lock is there, or has one entry in the history. One that was
// there may have ended since, by a request to a killed server.
func (l *ledger) compareHistory(
	t *testing.T, c *api.Client, who int, there map[string]string,
) {
	t.Helper()
	ended := map[string]bool{}
	for i := range 5 {
		all, err := c.History(t.Context(), api.HistoryQuery{
			Name: fmt.Sprint("lock-", who, "-", i), Limit: api.MaxHistory,
		})
		require.NoError(t, err)
		for _, e := range all {
			require.False(t, ended[e.ID], "lock %s has two entries", e.ID)
			ended[e.ID] = true
		}
	}
	held := map[string]bool{}
	for _, id := range there {
		held[id] = true
		if ended[id] {
			_, err := c.Get(t.Context(), id)
			require.ErrorIs(t, err, api.ErrGone, "lock %s is there, and has an entry", id)
		}
	}
	for id := range l.made {
		require.True(t, held[id] || ended[id], "lock %s has ended without an entry", id)
	}
}

func TestWhatWasAcknowledgedSurvivesKills(t *testing.T) {
	t.Parallel()
	for _, store := range []struct {
		name string
		url  func(t *testing.T) string
	}{
		{"bbolt", func(t *testing.T) string { return boltAt(t) }},
		{"PostgreSQL", func(t *testing.T) string { return postgres.Database(t) }},
	} {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			const kills, clients = 50, 4
			env := []string{envKey + "=kill-test"}
			url := store.url(t)
			ledgers := make([]*ledger, clients)
			for who := range ledgers {
				ledgers[who] = newLedger()
			}
			for range kills {
				s := serveWith(t, env, "--store", url, "--grace", "1h")
				c := s.client()
				var g errgroup.Group
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				for who, l := range ledgers {
					l.compare(t, c, who)
					g.Go(func() error { return l.work(ctx, c, who) })
				}
				timer := time.AfterFunc(rand.N(60*time.Millisecond), func() {
					s.cmd.Process.Signal(syscall.SIGKILL)
				})
				s.awaitEnd()
				timer.Stop()
				cancel()
				require.NoError(t, g.Wait())
				require.NoError(t, c.Shutdown(t.Context()))
			}
			s := serveWith(t, env, "--store", url, "--grace", "1h")
			acks := 0
			for who, l := range ledgers {
				l.compare(t, s.client(), who)
				acks += l.acks
			}
			require.Greater(t, acks, kills)
			t.Log(acks, "acknowledgements over", kills, "kills")
			s.stop()
		})
	}
}

// The database is killed, not the server, which serves again when it is back.
func TestWhatWasAcknowledgedSurvivesTheDatabasesEnd(t *testing.T) {
	t.Parallel()
	const kills, clients = 3, 4
	database := pgtest.Cluster{Fsync: true}
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	s := serveWith(t, []string{envKey + "=kill-test"}, "--store", database.Database(t), "--grace",
		"1h")
	c := s.client()
	ledgers := make([]*ledger, clients)
	for who := range ledgers {
		ledgers[who] = newLedger()
	}
	acks := func() (n int) {
		for _, l := range ledgers {
			n += l.acks
		}
		return n
	}
	for range kills {
		var g errgroup.Group
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		before := acks()
		for who, l := range ledgers {
			l.compare(t, c, who)
			l.enough.Store(false)
			g.Go(func() error { return l.work(ctx, c, who) })
		}
		<-time.After(rand.N(200 * time.Millisecond))
		database.Kill(t)
		down := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, s.get("/healthchecker"))
		require.Less(t, time.Since(down), 5*time.Second)
		for _, l := range ledgers {
			l.enough.Store(true) // a delete is retried until the database is back
		}
		database.Start(t)
		up := time.Now()
		require.NoError(t, g.Wait())
		cancel()
		eventually(t, "it serves again",
			func() bool { return s.get("/healthchecker") == http.StatusOK })
		t.Log(acks()-before, "acknowledgements; up again", time.Since(up), "after the database")
	}
	for who, l := range ledgers {
		l.compare(t, c, who)
	}
	require.Greater(t, acks(), kills)
	s.stop()
}

// get returns the status of a GET.
func (s *serving) get(path string) int {
	s.t.Helper()
	resp, err := http.Get(s.url + path)
	require.NoError(s.t, err)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode
}

// register is a guarded resource: it refuses tokens that do not rise and detects two
// holders at a time.
type register struct {
	mu     sync.Mutex
	inside int
	token  uint64
	faults []string
	stays  int
	left   time.Time
	idle   time.Duration // the longest time with no holder
}

func (r *register) enter(token uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside++; r.inside > 1 {
		r.faults = append(r.faults, fmt.Sprint(r.inside, " inside"))
	}
	if token <= r.token {
		r.faults = append(r.faults, fmt.Sprint("token ", token, " after ", r.token))
	}
	r.token = token
	if r.stays++; !r.left.IsZero() {
		r.idle = max(r.idle, time.Since(r.left))
	}
}

func (r *register) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	r.left = time.Now()
}

// chaos is how long servers are killed at random.
//
//	go test ./cmd/relukko -run KilledAtRandom -v -chaos 30s
var chaos = flag.Duration("chaos", 3*time.Second,
	"how long TestServersOverOneDatabaseAreKilledAtRandom kills servers")

func TestServersOverOneDatabaseAreKilledAtRandom(t *testing.T) {
	t.Parallel()
	const servers, mutexes = 3, 24
	env := []string{envKey + "=kill-test"}
	args := []string{"--store", postgres.Database(t), "--grace", "0s"}
	var running [servers]*serving
	var r register
	var g errgroup.Group
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range running {
		running[i] = serveWith(t, env, args...)
	}
	for i := range mutexes {
		c, err := api.New(running[i%servers].url, "kill-test")
		require.NoError(t, err)
		m := relukko.NewMutex(c, "shared", relukko.WithTTL(time.Second))
		g.Go(func() error {
			defer c.Shutdown(context.Background())
			for ctx.Err() == nil {
				held, err := m.Lock(context.Background())
				if err != nil {
					return err
				}
				s, _ := relukko.FromContext(held)
				r.enter(s.Info().FencingToken)
				select {
				case <-time.After(rand.N(5 * time.Millisecond)):
				case <-held.Done():
				}
				r.leave()
				if err := m.Unlock(held); err != nil {
					t.Log(err) // a loss, or a release that the killed server did not confirm
				}
			}
			return nil
		})
	}
	began, kills := time.Now(), 0
	for ; time.Since(began) < *chaos; kills++ {
		i := rand.IntN(servers)
		at := strings.TrimPrefix(running[i].url, "http://")
		before := r.count()
		eventually(t, "a client holds it", func() bool { return r.count() > before+50 })
		running[i].signal(syscall.SIGKILL)
		running[i].awaitEnd()
		running[i] = serveWith(t, env, append([]string{"--addr", at}, args...)...)
	}
	cancel()
	require.NoError(t, g.Wait())
	require.Empty(t, r.faults)
	require.NotZero(t, kills)
	t.Log(r.count(), "stays and", kills, "kills in", time.Since(began),
		"the longest time with no holder:", r.idle, "never two holders, all tokens rising")
}

func (r *register) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stays
}
