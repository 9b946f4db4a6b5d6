package pgstore_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/pgtest"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/pgstore"
)

// durable is a PostgreSQL that writes to disk in earnest.
var durable = pgtest.Cluster{Fsync: true}

// BenchmarkRounds is how often many clients, each with a name of its own, create a lock and delete it again: through the Store of a
// server that is alone on its database, of one that has to tell another, and by pgbench, which says what this database on this
// disk allows. An operation is one round; the latencies are those of one create or delete.
//
//	go test -run '^$' -bench Rounds -benchtime 5s ./server/pgstore
func BenchmarkRounds(b *testing.B) {
	defer func() { require.NoError(b, durable.Close()) }()
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("alone/clients=", clients), func(b *testing.B) { storeRounds(b, clients, 1) })
		b.Run(fmt.Sprint("two/clients=", clients), func(b *testing.B) { storeRounds(b, clients, 2) })
		b.Run(fmt.Sprint("pgbench/clients=", clients), func(b *testing.B) { pgbenchRounds(b, clients) })
	}
}

// BenchmarkHandoff is a lock going from a client of one server to a client of another, each waiting on his server.
func BenchmarkHandoff(b *testing.B) {
	defer func() { require.NoError(b, durable.Close()) }()
	b.Run("two", func(b *testing.B) {
		nodes := startNodesOn(b, durable.Database(b), 2)
		var wg sync.WaitGroup
		var handed atomic.Int64
		for _, n := range nodes {
			wg.Go(func() {
				for handed.Add(1) <= int64(b.N) {
					n.delete(n.create(context.Background(), "robot-arm-1", 30).ID)
				}
			})
		}
		wg.Wait()
	})
}

// watch hears the others, and makes nothing of it.
func watch(b *testing.B, s *pgstore.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Watch(ctx, func(server.Event) {}) })
	b.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	require.Eventually(b, s.Listens, soon, time.Millisecond)
}

func storeRounds(b *testing.B, clients, servers int) {
	url := durable.Database(b)
	s := open(b, url)
	watch(b, s)
	if servers > 1 {
		watch(b, open(b, url))
		require.Eventually(b, s.Heeded, soon, time.Millisecond)
	}
	creator := "user@host/42 #k3v9x2m4q7ab"
	round := func(client int) (create, remove time.Duration) {
		in := server.NewLock{ID: newID(), Name: fmt.Sprint("lock-", client), Creator: &creator, IP: "192.0.2.7", TTL: time.Minute}
		in.Mark = fmt.Sprint("mark-", client)
		began := time.Now()
		if _, err := s.Create(context.Background(), in); err != nil {
			b.Error(err)
		}
		made := time.Now()
		if _, err := s.Delete(context.Background(), in.ID); err != nil {
			b.Error(err)
		}
		return made.Sub(began), time.Since(made)
	}
	var wg sync.WaitGroup
	for c := range clients { // connections are not what is measured
		wg.Go(func() { round(c) })
	}
	wg.Wait()

	b.ResetTimer()
	took := make([][]time.Duration, clients)
	for c := range clients {
		wg.Go(func() {
			for range (b.N + clients - 1) / clients {
				create, remove := round(c)
				took[c] = append(took[c], create, remove)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	report(b, slices.Concat(took...))
}

// pgbenchRounds has pgbench make rows in a table with the same indexes, for as long as the other took.
func pgbenchRounds(b *testing.B, clients int) {
	program := durable.Program(b, "pgbench")
	url := durable.Database(b)
	conn, err := pgx.Connect(b.Context(), url)
	require.NoError(b, err)
	_, err = conn.Exec(b.Context(), `CREATE TABLE locks (id uuid PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE, creator text, ip text,
		expires_at timestamptz, created_at timestamptz, updated_at timestamptz, token bigint, mark text);
		CREATE INDEX ON locks (expires_at); CREATE INDEX ON locks (mark); CREATE SEQUENCE tokens`)
	require.NoError(b, err)
	require.NoError(b, conn.Close(b.Context()))

	dir := b.TempDir()
	script := filepath.Join(dir, "round.sql")
	require.NoError(b, os.WriteFile(script, []byte(`INSERT INTO locks VALUES (gen_random_uuid(), 'lock-' || :client_id, 'user@host/42 #k3v9x2m4q7ab', '192.0.2.7',
	now() + '1 minute', now(), now(), nextval('tokens'), 'mark-' || :client_id) RETURNING *;
DELETE FROM locks WHERE name = 'lock-' || :client_id RETURNING *;
`), 0o600))
	b.ResetTimer()
	cmd := exec.Command(program, "--no-vacuum", "--protocol=prepared", "--client="+strconv.Itoa(clients), "--jobs=2",
		"--transactions="+strconv.Itoa((b.N+clients-1)/clients), "--file="+script, "--log", "--log-prefix="+filepath.Join(dir, "log"), url)
	out, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", out)
	b.StopTimer()
	report(b, latencies(b, dir))
}

// latencies reads pgbench's logs. A transaction in them is a round: half of it for each statement.
func latencies(b *testing.B, dir string) (took []time.Duration) {
	logs, err := filepath.Glob(filepath.Join(dir, "log.*"))
	require.NoError(b, err)
	for _, path := range logs {
		f, err := os.Open(path)
		require.NoError(b, err)
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			us, err := strconv.Atoi(strings.Fields(lines.Text())[2])
			require.NoError(b, err)
			took = append(took, time.Duration(us)*time.Microsecond/2)
		}
	}
	return took
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rounds/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/p99")
}

func newID() string {
	id := pgtype.UUID{Valid: true}
	rand.Read(id.Bytes[:])
	return id.String()
}
