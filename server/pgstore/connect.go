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
)

const (
	maxConns       = 16
	connectTimeout = 2 * time.Second
	closeTimeout   = 2 * time.Second // for a connection to close whose other end does not answer
	pingTimeout    = 500 * time.Millisecond
)

// session sets up a connection, whatever the database's or the role's own settings are.
//
//   - A lock acknowledged is a lock kept, by the synchronous replicas too; a stricter setting is left.
//   - What the functions do after they got a lock must see what was committed before.
//   - Nobody waits for long, nor is waited for, when this program is not there any more to say so.
//   - The tables are small and change quickly: a plan made while they are empty must do when they no longer are. Plain
//     index scans also clear away dead entries as they go.
const session = `SELECT
	set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
	set_config('default_transaction_isolation', 'read committed', false),
	set_config('lock_timeout', '2s', false),
	set_config('statement_timeout', '5s', false),
	set_config('idle_in_transaction_session_timeout', '5s', false),
	set_config('enable_seqscan', 'off', false),
	set_config('enable_bitmapscan', 'off', false),
	set_config('plan_cache_mode', 'force_generic_plan', false),
	set_config('jit', 'off', false),
	set_config('client_encoding', 'UTF8', false)`

// prepare sets up config for the pool, and answers the same for connections beside it.
func prepare(config *pgxpool.Config) (dial func() *pgx.ConnConfig) {
	conn := config.ConnConfig
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = connectTimeout
	}
	if conn.ValidateConnect == nil {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite // a standby is of no use
	}
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = "relukko"
	}
	conn.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		return c.Exec(ctx, session).Close()
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

// neverCancel has the driver, when it gives up a statement, close the connection without asking PostgreSQL to cancel what
// it is at. A commit that waits for a synchronous replica would, when cancelled, become visible to all although the replica does
// not have it. PostgreSQL's own time-outs end what hangs; they leave commits alone.
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
		return hastyConn{c}, nil
	}
	setUp := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		connected.Store(true)
		return setUp(ctx, c)
	}
}

// hastyConn shortens the time that the driver waits for the other end to close. Otherwise each connection of a network gone
// dark would hold its place in the pool for 15 s. Deadlines that lie in the future have no other purpose in the driver.
type hastyConn struct{ net.Conn }

func (c hastyConn) SetDeadline(t time.Time) error {
	if latest := time.Now().Add(closeTimeout); t.After(latest) {
		t = latest
	}
	return c.Conn.SetDeadline(t)
}
