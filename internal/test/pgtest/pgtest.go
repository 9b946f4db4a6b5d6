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
// Where PostgreSQL is not installed, tests that need a database are skipped with a message that
// says what to install; with [RequireEnv] set they fail instead.
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

	"github.com/jackc/pgx/v5"
)

// RequireEnv is the environment variable that, set to anything, makes tests fail rather than be
// skipped where PostgreSQL is not installed.
const RequireEnv = "RELUKKO_REQUIRE_POSTGRES"

const port = "5432" // of the socket; nothing listens on the network

// Cluster is a private PostgreSQL: a data directory in a temporary folder and a server on a Unix
// socket in it. It starts when the first database is requested. The zero value is ready for use; it
// must not be copied.
type Cluster struct {
	// Fsync makes the server sync its writes to disk. Without it the data survives a killed server
	// but no power loss, which is enough for most tests and much faster.
	Fsync bool
	// Settings are added to the server's configuration, like {"log_statement": "all"}.
	Settings map[string]string

	mu        sync.Mutex
	bin       string // where the programs are
	dir       string // the temporary folder
	server    *process
	databases int
	shared    []string // names of shared databases that no test uses
	failed    error    // why PostgreSQL cannot be started
}

// Main wraps m so that the cluster ends with the tests, before a check for leaks runs.
func (c *Cluster) Main(m interface{ Run() int }) *Main { return &Main{m, c} }

// Main runs tests and ends their cluster.
type Main struct {
	tests   interface{ Run() int }
	cluster *Cluster
}

// Run runs the tests, ends the cluster and returns the exit code.
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
		c.dir, c.shared = "", nil
	}
	return err
}

// Database creates an empty database, which is dropped at the end of the test, and returns its URL.
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

// Shared returns the URL of a database for this test alone, which stays with what is in it for the
// tests after it: they empty it themselves. That is several times as fast as a new database.
func (c *Cluster) Shared(t testing.TB) string {
	t.Helper()
	c.Start(t)
	c.mu.Lock()
	var name string
	if n := len(c.shared); n > 0 {
		name, c.shared = c.shared[n-1], c.shared[:n-1]
	}
	c.databases++
	number := c.databases
	c.mu.Unlock()
	if name == "" {
		name = fmt.Sprint("shared", number)
		c.admin(t, "CREATE DATABASE "+name+" TEMPLATE template0")
	}
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.shared = append(c.shared, name)
	})
	return c.url(name)
}

// Socket returns the path of the Unix socket on which the server listens.
func (c *Cluster) Socket() string { return filepath.Join(c.dir, ".s.PGSQL."+port) }

// Program returns the path of one of PostgreSQL's own programs, such as pgbench.
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

// admin runs one statement in the database postgres.
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

// Start starts the server, if it does not run, and returns when it accepts connections: the first
// time with an empty data directory, later with the data that it had and on the same address.
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

// Stop stops the server in an orderly way: it disconnects its clients. At the end of the test at
// the latest it is started again.
func (c *Cluster) Stop(t testing.TB) { c.stop(t, fast) }

// Kill is like Stop, but ends the server as a crash does (kill -9).
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

// create creates the temporary folder and the data directory.
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
		"lc_messages":             "C", // process.read parses the log
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

// missing skips the test, or fails it with [RequireEnv], because there is no PostgreSQL for it.
func (c *Cluster) missing(t testing.TB, err error) {
	t.Helper()
	message := fmt.Sprintf("NOT TESTED: %v. Install PostgreSQL's server (Debian: apt install "+
		"postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql), "+
		"or put its pg_config in PATH.", err)
	if os.Getenv(RequireEnv) != "" {
		t.Fatal(strings.Replace(message, "NOT TESTED", RequireEnv+" is set, but", 1))
	}
	t.Skip(message)
}
