package pgstore

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"gitlab.com/relukko/relukko-go/internal/rawio"
)

const (
	connectTimeout = 2 * time.Second
	closeTimeout   = 2 * time.Second // for a connection to close whose other end does not answer
	pingTimeout    = 500 * time.Millisecond
	lockTimeout    = "2s" // of a transaction of one call
)

// session sets up a connection, whatever the settings of the database and the role are.
//
//   - A lock acknowledged is a lock kept, by synchronous replicas too. A stricter setting stays.
//   - What the functions read after taking a lock must include what was committed before.
//   - No transaction waits for long, or makes others wait, after this program has died.
//   - The tables are small and change quickly. A plan made while they are empty must be good when
//     they are not. Plain index scans also remove dead entries as they go.
const session = `SELECT
	set_config('synchronous_commit', CASE current_setting('synchronous_commit')
		WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
	set_config('default_transaction_isolation', 'read committed', false),
	set_config('lock_timeout', '` + lockTimeout + `', false),
	set_config('statement_timeout', '5s', false),
	set_config('idle_in_transaction_session_timeout', '5s', false),
	set_config('enable_seqscan', 'off', false),
	set_config('enable_bitmapscan', 'off', false),
	set_config('plan_cache_mode', 'force_generic_plan', false),
	set_config('jit', 'off', false),
	set_config('client_encoding', 'UTF8', false);`

// join registers a connection of a server: it has a share of a lock that a copy of the store needs
// for itself.
const join = `DO $$ BEGIN
	IF NOT pg_try_advisory_lock_shared(1919708010, 2) THEN
		RAISE EXCEPTION 'relukko restore or relukko move is using the store'
			USING ERRCODE = 'lock_not_available';
	END IF;
END $$`

// prepare sets up config for the pool, and returns the same for connections beside it. The first
// statements of a connection are those of session, and then.
func prepare(config *pgxpool.Config, then string) (dial func() *pgx.ConnConfig) {
	conn := config.ConnConfig
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTimeout
	}
	if conn.ValidateConnect == nil {
		// A standby is of no use.
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = "relukko"
	}
	conn.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		return c.Exec(ctx, session+then).Close()
	}
	config.PingTimeout = pingTimeout
	config.BeforeConnect = func(_ context.Context, conn *pgx.ConnConfig) error {
		neverCancel(conn)
		return nil
	}
	return func() *pgx.ConnConfig {
		c := conn.Copy()
		neverCancel(c)
		return c
	}
}

var errNoCancel = errors.New("a statement is given up, never cancelled")

// neverCancel makes the driver close the connection when it gives up a statement, without asking
// PostgreSQL to cancel it. A cancelled commit that waits for a synchronous replica would become
// visible although the replica does not have it. PostgreSQL's own time-outs end what hangs, apart
// from commits.
func neverCancel(config *pgx.ConnConfig) {
	var dialer net.Dialer
	var connected atomic.Bool
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() { // to send a cancel request
			return nil, errNoCancel
		}
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return hastyConn{rawio.New(c)}, nil
	}
	setUp := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		connected.Store(true)
		return setUp(ctx, c)
	}
}

// hastyConn shortens the time that the driver waits for the other end to close. Otherwise each
// connection over a broken network would hold its place in the pool for 15 s. The driver uses
// deadlines in the future for nothing else.
type hastyConn struct{ net.Conn }

func (c hastyConn) SetDeadline(t time.Time) error {
	if latest := time.Now().Add(closeTimeout); t.After(latest) {
		t = latest
	}
	return c.Conn.SetDeadline(t)
}

// closeConn closes a connection, which may be nil.
func closeConn(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
	select {
	case <-conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}
