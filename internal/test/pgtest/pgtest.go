// Package pgtest starts a private PostgreSQL for tests, from the binaries that are installed.
//
//	var postgres pgtest.Cluster
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(postgres.Main(m)) }
//
//	func TestStore(t *testing.T) {
//		url := postgres.Database(t)
//		…
//
// Where PostgreSQL is not installed, tests that ask for a database are skipped, and say what to install; with
// [RequireEnv] set they fail instead.
package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// RequireEnv is the environment variable that, set to anything, makes tests fail rather than be skipped where
// PostgreSQL is not installed.
const RequireEnv = "RELUKKO_REQUIRE_POSTGRES"

const (
	port    = "5432"           // of the socket; nothing listens on the network
	maxWait = 30 * time.Second // for PostgreSQL to start, to stop, to make a database
)

// Cluster is a PostgreSQL of one's own: a data directory in a temporary folder and a server on a Unix socket beside it.
// It starts when the first database is asked for. The zero value is ready for use; it must not be copied.
type Cluster struct {
	// Fsync has it write to disk in earnest. Without, it survives being killed, but not the machine's power loss,
	// which is all that tests need and much faster.
	Fsync bool
	// Settings are added to the server's configuration, like {"log_statement": "all"}.
	Settings map[string]string

	mu        sync.Mutex
	bin       string // where the programs are
	dir       string // the temporary folder
	server    *process
	databases int
	shared    bool  // there is a database for all
	failed    error // why it can't be had
}

// Main wraps m so that the cluster ends with the tests, before anything looks for what they left behind.
func (c *Cluster) Main(m interface{ Run() int }) *Main { return &Main{m, c} }

// Main runs tests and ends their cluster.
type Main struct {
	tests   interface{ Run() int }
	cluster *Cluster
}

// Run runs the tests, ends the cluster and answers the exit code.
func (m *Main) Run() int {
	code := m.tests.Run()
	if err := m.cluster.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// Close ends the server, if there is one, and deletes its data.
func (c *Cluster) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if c.server != nil {
		err = c.server.stop(fast)
		c.server = nil
	}
	if c.dir != "" {
		os.RemoveAll(c.dir)
		c.dir, c.shared = "", false
	}
	return err
}

// Database makes an empty database, which goes with the test, and answers its URL.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	c.Start(t)
	c.mu.Lock()
	c.databases++
	name := fmt.Sprint("test", c.databases)
	c.mu.Unlock()
	c.admin(t, "CREATE DATABASE "+name+" TEMPLATE template0")
	t.Cleanup(func() { c.admin(t, "DROP DATABASE "+name+" WITH (FORCE)") })
	return c.url(name)
}

// Shared answers the URL of a database that is made when it is first asked for, and stays until the cluster ends: for tests that run
// one after the other, and empty it themselves. That is several times as fast as a database for each.
func (c *Cluster) Shared(t testing.TB) string {
	t.Helper()
	c.Start(t)
	c.mu.Lock()
	made := c.shared
	c.shared = true
	c.mu.Unlock()
	if !made {
		c.admin(t, "CREATE DATABASE shared TEMPLATE template0")
	}
	return c.url("shared")
}

// Socket answers the path of the Unix socket on which the server listens.
func (c *Cluster) Socket() string { return filepath.Join(c.dir, ".s.PGSQL."+port) }

// Program answers the path of one of PostgreSQL's own programs, like pgbench.
func (c *Cluster) Program(t testing.TB, name string) string {
	t.Helper()
	c.Start(t)
	path := filepath.Join(c.bin, name)
	if _, err := os.Stat(path); err != nil {
		c.missing(t, err)
	}
	return path
}

func (c *Cluster) url(database string) string {
	query := url.Values{"host": {c.dir}, "port": {port}, "user": {superuser}}
	return "postgres:///" + database + "?" + query.Encode()
}

// admin runs one statement beside all tests' databases.
func (c *Cluster) admin(t testing.TB, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url("postgres"))
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("pgtest: %s: %v", sql, err)
	}
}

// Start starts the server, the first time with an empty data directory, later with what was there and on the same address. It
// returns when connections are accepted, at once if they are already.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		return
	}
	if c.failed == nil && c.dir == "" {
		c.failed = c.create()
	}
	if c.failed != nil {
		c.missing(t, c.failed)
	}
	var err error
	if c.server, err = start(c.bin, c.dir, c.settings()); err != nil {
		t.Fatalf("pgtest: PostgreSQL does not start: %v", err)
	}
}

// Stop stops the server in an orderly way: its clients are disconnected. It is started again with the test's end at
// the latest.
func (c *Cluster) Stop(t testing.TB) { c.stop(t, fast) }

// Kill ends the server as a crash would (kill -9). Otherwise it is like Stop.
func (c *Cluster) Kill(t testing.TB) { c.stop(t, immediate) }

func (c *Cluster) stop(t testing.TB, how manner) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		t.Fatal("pgtest: the server does not run")
	}
	err := c.server.stop(how)
	c.server = nil
	t.Cleanup(func() { c.Start(t) })
	if err != nil {
		t.Fatal(err)
	}
}

// create makes the temporary folder and the data directory.
func (c *Cluster) create() (err error) {
	if c.bin, err = find(); err != nil {
		return err
	}
	if c.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		return err
	}
	if err = initdb(c.bin, c.dir); err != nil {
		os.RemoveAll(c.dir)
		c.dir = ""
	}
	return err
}

func (c *Cluster) settings() []string {
	settings := map[string]string{
		"listen_addresses":        "",
		"unix_socket_directories": c.dir,
		"port":                    port,
		"max_connections":         "200",
		"lc_messages":             "C", // the log is read
	}
	if !c.Fsync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	for name, value := range c.Settings {
		settings[name] = value
	}
	var args []string
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	return args
}

// missing ends the test, because there is no PostgreSQL for it.
func (c *Cluster) missing(t testing.TB, err error) {
	t.Helper()
	message := fmt.Sprintf("NOT TESTED: %v. Install PostgreSQL's server (Debian: apt install postgresql; Fedora: dnf install "+
		"postgresql-server; macOS: brew install postgresql), or have its pg_config in PATH.", err)
	if os.Getenv(RequireEnv) != "" {
		t.Fatal(strings.Replace(message, "NOT TESTED", RequireEnv+" is set, but", 1))
	}
	t.Skip(message)
}
