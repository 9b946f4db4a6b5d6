//go:build linux

package year

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

var year = flag.Bool("year", false, "use the numbers of a year, and print the figures")

// scaled returns the first number, or with -year the second.
func scaled(normal, whole int) int {
	if *year {
		return whole
	}
	return normal
}

const (
	apiKey  = "a key for the tests"
	names   = 1000 // in the history
	ttl     = time.Minute
	history = 365 * 24 * time.Hour
)

var (
	postgres = pgtest.Cluster{Fsync: true}
	folder   string // has the binary
	program  string
)

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if folder, err = os.MkdirTemp("", "relukko-year-"); err != nil {
		panic(err)
	}
	program = filepath.Join(folder, "relukko")
	out, err := exec.Command("go", "build", "-o", program, "../../../cmd/relukko").CombinedOutput()
	if err != nil {
		panic(string(out))
	}
	goleak.VerifyTestMain(postgres.Main(m), goleak.Cleanup(func(code int) {
		os.RemoveAll(folder)
		os.Exit(code)
	}))
}

// figure prints one of the figures.
func figure(t *testing.T, what, format string, args ...any) {
	if *year {
		fmt.Printf("%s | %s | %s\n", filepath.Base(t.Name()), what, fmt.Sprintf(format, args...))
	}
}

func TestYear(t *testing.T) {
	entries, locks, streams := scaled(2000, 1_000_000), scaled(200, 10_000), scaled(20, 1000)
	for name, filled := range map[string]func(*testing.T, int) string{
		"bbolt": filledBolt, "PostgreSQL": filledPostgres,
	} {
		t.Run(name, func(t *testing.T) {
			spec := filled(t, entries)
			s := start(t, spec)
			figure(t, "start with the history", "%v", s.took)
			figure(t, "memory after that", "%d MB, at most %d MB", s.memory("VmRSS"),
				s.memory("VmHWM"))

			h := hold(t, s, locks, streams)
			s.latencies(entries)
			figure(t, "memory with all", "%d MB, at most %d MB", s.memory("VmRSS"),
				s.memory("VmHWM"))
			if *year {
				before := s.cpu()
				<-time.After(ttl / 2)
				used := s.cpu() - before
				figure(t, "processor time for renewals", "%.1f %% of one",
					100*used.Seconds()/(ttl/2).Seconds())
			}

			again := s.restart()
			figure(t, "start with the history and the locks, after kill -9", "%v", again.took)
			h.stillHeld(time.Duration(scaled(1, 30)) * time.Second)
			h.release(streams)
			if file, ok := strings.CutPrefix(spec, "bolt:"); ok {
				info, err := os.Stat(file)
				require.NoError(t, err)
				figure(t, "size of the file", "%d MB", info.Size()>>20)
			}
		})
	}
}

// filledBolt returns a store whose history has n entries.
func filledBolt(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "locks.db")
	st, err := boltstore.Open(path, nil)
	require.NoError(t, err)
	st.KeepHistory(store.HistoryLimits{Age: history, Max: 2 * n})
	creator := "ada@bench-7/16941 (https://ci.example/jobs/123456) #k3v5x2m4q7ab"
	var g errgroup.Group
	for c := range names {
		g.Go(func() error {
			for i := c; i < n; i += names {
				id := fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)
				_, err := st.Create(t.Context(), store.NewLock{ID: id, Creator: &creator,
					Name: fmt.Sprint("robot-arm-", c), IP: "192.0.2.7", TTL: ttl, Owner: "ci"})
				if err == nil {
					_, err = st.Delete(t.Context(), id, store.Ending{By: "ci"})
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.NoError(t, st.Close())
	return "bolt:" + path
}

func filledPostgres(t *testing.T, n int) string {
	t.Helper()
	url := postgres.Database(t)
	st, err := pgstore.Open(t.Context(), url, nil) // for the schema
	require.NoError(t, err)
	require.NoError(t, st.Close())
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), `INSERT INTO relukko_go.history (id, name, creator, ip,
		expires_at, created_at, updated_at, token, owner, waited, ended_at, how, by_key, reason)
		SELECT gen_random_uuid(), 'robot-arm-' || i % 1000,
			'ada@bench-7/16941 (https://ci.example/jobs/123456) #k3v5x2m4q7ab', '192.0.2.7',
			t, t, t, i, 'ci', '0', t, 'released', 'ci', ''
		FROM (SELECT i, clock_timestamp() - interval '1 second' AS t
			FROM generate_series(1, $1::int) AS i) AS rows`, n)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `VACUUM ANALYZE relukko_go.history`)
	require.NoError(t, err)
	return url
}

// holders hold locks over streams of their own.
type holders struct {
	t       *testing.T
	mutexes []*relukko.Mutex
	held    []context.Context
}

// hold acquires so many locks, with so many clients, each of which has a stream.
func hold(t *testing.T, s *serving, locks, streams int) *holders {
	t.Helper()
	h := &holders{t, make([]*relukko.Mutex, locks), make([]context.Context, locks)}
	began := time.Now()
	var g errgroup.Group
	for c := range streams {
		client := s.client()
		g.Go(func() (err error) {
			for i := c; i < locks; i += streams {
				h.mutexes[i] = relukko.NewMutex(client, fmt.Sprint("bench-", i),
					relukko.WithTTL(ttl))
				if h.held[i], err = h.mutexes[i].Lock(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	figure(t, "acquiring the locks", "%v", time.Since(began).Round(10*time.Millisecond))
	return h
}

// stillHeld waits for so long, and requires that no lock was lost.
func (h *holders) stillHeld(d time.Duration) {
	h.t.Helper()
	<-time.After(d)
	lost := slices.DeleteFunc(slices.Clone(h.held), func(held context.Context) bool {
		return held.Err() == nil
	})
	figure(h.t, "locks that this has lost", "%d", len(lost))
	if len(lost) > 0 {
		h.t.Errorf("%d of %d locks were lost, as %v", len(lost), len(h.held),
			context.Cause(lost[0]))
	}
}

// release releases the locks, those of a client one after the other.
func (h *holders) release(streams int) {
	h.t.Helper()
	began := time.Now()
	var g errgroup.Group
	for c := range streams {
		g.Go(func() (err error) {
			for i := c; i < len(h.mutexes); i += streams {
				err = errors.Join(err, h.mutexes[i].Unlock(h.held[i]))
			}
			return err
		})
	}
	require.NoError(h.t, g.Wait())
	figure(h.t, "releasing the locks", "%v", time.Since(began).Round(10*time.Millisecond))
}

// latencies measures requests of one client while the locks are held.
func (s *serving) latencies(entries int) {
	s.t.Helper()
	c, t := s.client(), s.t
	ctx := t.Context()
	m := relukko.NewMutex(c, "another")
	query := func(q api.HistoryQuery, want int) func() error {
		return func() error {
			ended, err := c.History(ctx, q)
			if err == nil && len(ended) != want {
				err = fmt.Errorf("%d entries, want %d", len(ended), want)
			}
			return err
		}
	}
	byName := entries / names
	for _, request := range []struct {
		what string
		do   func() error
	}{
		{"list of all locks", func() error { _, err := c.List(ctx); return err }},
		{"one lock by its name", func() error { _, err := c.Find(ctx, "bench-7"); return err }},
		{"history, the newest 100", query(api.HistoryQuery{}, 100)},
		{"history, the newest 10,000", query(api.HistoryQuery{Limit: 10_000},
			min(entries, 10_000))},
		{"history of one name", query(api.HistoryQuery{Name: "robot-arm-7", Limit: 10_000},
			byName)},
		{"Lock and Unlock", func() error {
			return m.Do(ctx, func(context.Context) error { return nil })
		}},
	} {
		var took []time.Duration
		for range scaled(2, 21) {
			began := time.Now()
			require.NoError(t, request.do(), request.what)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		figure(t, request.what, "%v, at most %v", took[len(took)/2].Round(10*time.Microsecond),
			took[len(took)-1].Round(10*time.Microsecond))
	}
}
