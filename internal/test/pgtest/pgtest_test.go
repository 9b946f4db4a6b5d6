package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
)

var postgres pgtest.Cluster

// abandonEnv makes the test binary start a cluster and wait to be killed.
const abandonEnv = "PGTEST_ABANDON"

func TestMain(m *testing.M) {
	if os.Getenv(abandonEnv) != "" {
		abandon()
	}
	goleak.VerifyTestMain(postgres.Main(m))
}

func abandon() {
	testing.Init()
	testing.Benchmark(func(b *testing.B) {
		fmt.Println(postgres.Database(b))
		_, _ = io.Copy(io.Discard, os.Stdin)
	})
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// What was committed is there again, on the same address, after either end of the server.
func TestWhatWasCommittedIsThereAgain(t *testing.T) {
	ends := map[string]func(testing.TB){"stopped": postgres.Stop, "killed": postgres.Kill}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			url := postgres.Database(t)
			conn := connect(t, url)
			_, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 42 AS n")
			require.NoError(t, err)
			end(t)
			_, err = pgx.Connect(t.Context(), url)
			require.Error(t, err)
			postgres.Start(t)
			postgres.Start(t) // runs already
			var n int
			require.NoError(t, connect(t, url).QueryRow(t.Context(), "SELECT n FROM kept").Scan(&n))
			require.Equal(t, 42, n)
		})
	}
}

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	for range 2 {
		_, err := connect(t, postgres.Database(t)).Exec(t.Context(), "CREATE TABLE one (n int)")
		require.NoError(t, err)
	}
}

// A server that a test has stopped is up again for the next one.
func TestStoppedByATest(t *testing.T) {
	t.Run("stop", func(t *testing.T) {
		postgres.Start(t)
		postgres.Stop(t)
	})
	connect(t, postgres.Database(t))
}

// Clusters run side by side, and a closed one leaves nothing.
func TestSeveralClusters(t *testing.T) {
	other := pgtest.Cluster{Fsync: true, Settings: map[string]string{"max_connections": "7"}}
	other.Start(t)
	socket := other.Socket()
	require.FileExists(t, socket)
	require.NotEqual(t, postgres.Socket(), socket)
	var limit string
	t.Run("settings", func(t *testing.T) {
		conn := connect(t, other.Database(t))
		require.NoError(t, conn.QueryRow(t.Context(), "SHOW max_connections").Scan(&limit))
		require.Equal(t, "7", limit)
		require.NoError(t, conn.QueryRow(t.Context(), "SHOW fsync").Scan(&limit))
		require.Equal(t, "on", limit)
	})
	require.NoError(t, other.Close())
	require.NoFileExists(t, socket)
	require.NoError(t, other.Close())
}

func TestPrograms(t *testing.T) {
	_, err := os.Stat(postgres.Program(t, "pg_ctl"))
	require.NoError(t, err)
}

// A killed test leaves neither its server nor the data.
func TestNothingIsLeftOfAKilledTest(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), abandonEnv+"=1")
	_, err := cmd.StdinPipe() // keeps it waiting
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	url, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	conn := connect(t, strings.TrimSpace(url))
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	_, err = conn.WaitForNotification(t.Context())
	require.Error(t, err, "the connection is closed")
}

// spoken records the final message of a test.
type spoken struct {
	testing.TB
	skipped, failed string
}

func (s *spoken) Helper() {}

func (s *spoken) Skip(args ...any) {
	s.skipped = fmt.Sprint(args...)
	panic(s)
}

func (s *spoken) Fatal(args ...any) {
	s.failed = fmt.Sprint(args...)
	panic(s)
}

func TestNothingIsInstalled(t *testing.T) {
	pgtest.HideInstalled(t)
	for _, required := range []string{"", "1"} {
		t.Setenv(pgtest.RequireEnv, required)
		var none pgtest.Cluster
		said := &spoken{}
		require.Panics(t, func() { none.Database(said) })
		if required == "" {
			require.Contains(t, said.skipped, "apt install postgresql")
			require.Empty(t, said.failed)
		} else {
			require.Contains(t, said.failed, "apt install postgresql")
			require.Empty(t, said.skipped)
		}
		require.NoError(t, none.Close())
	}
}
