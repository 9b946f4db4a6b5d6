package pgtest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The minimum that a lock costs in a database: a row with the indexes for finding it, inserted and
// deleted by one statement each.
const (
	benchSchema = `CREATE TABLE locks (id uuid PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE,
		creator text, ip text, expires_at timestamptz, created_at timestamptz,
		updated_at timestamptz, token bigint, mark text);
		CREATE INDEX ON locks (expires_at); CREATE INDEX ON locks (mark); CREATE SEQUENCE tokens`
	benchRound = `INSERT INTO locks VALUES (gen_random_uuid(), 'lock-' || :client_id,
	'user@host/42 #k3v5x2m4q7ab', '192.0.2.7', now() + '1 minute', now(), now(),
	nextval('tokens'), 'mark-' || :client_id) RETURNING *;
DELETE FROM locks WHERE name = 'lock-' || :client_id RETURNING *;
`
)

// Bench lets pgbench insert and delete b.N rows like those of locks, with the given number of
// clients, and returns how long each statement took, as half of a round. That is what this database
// on this disk can do at best. The benchmark's timer runs only meanwhile.
func (c *Cluster) Bench(b *testing.B, clients int) (took []time.Duration) {
	b.Helper()
	program := c.Program(b, "pgbench")
	url := c.Database(b)
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatalf("pgtest: %v", err)
	}
	_, err = conn.Exec(b.Context(), benchSchema)
	conn.Close(b.Context())
	if err != nil {
		b.Fatalf("pgtest: %v", err)
	}
	dir := b.TempDir()
	script := filepath.Join(dir, "round.sql")
	if err := os.WriteFile(script, []byte(benchRound), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "--no-vacuum", "--protocol=prepared",
		"--client="+strconv.Itoa(clients), "--jobs="+strconv.Itoa(min(clients, 2)),
		"--transactions="+strconv.Itoa((b.N+clients-1)/clients),
		"--file="+script, "--log", "--log-prefix="+filepath.Join(dir, "log"), url)
	b.ResetTimer()
	out, err := cmd.CombinedOutput()
	b.StopTimer()
	if err != nil {
		b.Fatalf("pgtest: pgbench: %v\n%s", err, out)
	}
	return latencies(b, dir)
}

// latencies reads pgbench's logs.
func latencies(b *testing.B, dir string) (took []time.Duration) {
	logs, err := filepath.Glob(filepath.Join(dir, "log.*"))
	if err != nil || len(logs) == 0 {
		b.Fatalf("pgtest: no logs of pgbench: %v", err)
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
			us, err := strconv.Atoi(strings.Fields(lines.Text())[2])
			if err != nil {
				b.Fatalf("pgtest: pgbench's log: %q", lines.Text())
			}
			took = append(took, time.Duration(us)*time.Microsecond/2)
		}
	}
	return took
}
