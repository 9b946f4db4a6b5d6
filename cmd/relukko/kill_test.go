package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// ledger is what one client was told of its locks. Nobody else uses its names.
type ledger struct {
	held    map[string]string // name to id: acknowledged, and no delete was sent since
	deleted map[string]bool   // by id: acknowledged
	tokens  map[string]uint64 // by name: the largest so far
	acks    int
}

func newLedger() *ledger {
	return &ledger{held: map[string]string{}, deleted: map[string]bool{}, tokens: map[string]uint64{}}
}

// work creates and deletes locks until a request fails, which is when the
// server was killed.
func (l *ledger) work(ctx context.Context, c *api.Client, who int) error {
	for {
		name := fmt.Sprint("lock-", who, "-", rand.IntN(5))
		if id := l.held[name]; id != "" {
			delete(l.held, name) // from here on it may be gone
			if _, err := c.Delete(ctx, id); err != nil {
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
		l.acks++
	}
}

// compare holds what the backend has against what was acknowledged, and takes
// over what was left open.
func (l *ledger) compare(t *testing.T, c *api.Client, who int) {
	t.Helper()
	locks, err := c.List(t.Context())
	require.NoError(t, err)
	there := map[string]string{}
	for _, lock := range locks {
		if strings.HasPrefix(lock.Name, fmt.Sprint("lock-", who, "-")) {
			there[lock.Name] = lock.ID
			require.False(t, l.deleted[lock.ID], "lock %s was deleted, and is back", lock.ID)
			require.GreaterOrEqual(t, lock.FencingToken, l.tokens[lock.Name])
			l.tokens[lock.Name] = lock.FencingToken
		}
	}
	for name, id := range l.held {
		require.Equal(t, id, there[name], "lock %s was acknowledged, and is missing", id)
	}
	l.held = there
}

func TestWhatWasAcknowledgedSurvivesKills(t *testing.T) {
	for _, store := range []struct {
		name string
		url  func(t *testing.T) string
	}{
		{"bbolt", func(t *testing.T) string { return boltAt(t) }},
		{"PostgreSQL", func(t *testing.T) string { return postgres.Database(t) }},
	} {
		t.Run(store.name, func(t *testing.T) {
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
				require.NoError(t, c.Close(t.Context()))
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

// register is something that is guarded: it refuses tokens that do not rise,
// and notices company.
type register struct {
	mu     sync.Mutex
	inside int
	token  uint64
	faults []string
	stays  int
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
	r.stays++
}

func (r *register) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
}

func TestServersOverOneDatabaseAreKilledAtRandom(t *testing.T) {
	const servers, mutexes, kills = 3, 24, 12
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
			defer c.Close(context.Background())
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
	for range kills {
		i := rand.IntN(servers)
		at := strings.TrimPrefix(running[i].url, "http://")
		before := r.count()
		eventually(t, "somebody gets in", func() bool { return r.count() > before+50 })
		running[i].signal(syscall.SIGKILL)
		running[i].awaitEnd()
		running[i] = serveWith(t, env, append([]string{"--addr", at}, args...)...)
	}
	cancel()
	require.NoError(t, g.Wait())
	require.Empty(t, r.faults)
	t.Log(r.count(), "stays,", kills, "kills, nobody inside with another, all tokens rising")
}

func (r *register) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stays
}
