// Package pgstore keeps the locks of Relukko servers in PostgreSQL, version 12 or later. Any number
// of servers on one database are one backend: clients may talk to any of them, and to another at
// any time.
//
//	s, err := pgstore.Open(ctx, "postgres://relukko:secret@db.example/relukko", nil)
//	if err != nil { … }
//	srv := server.New(s, server.WithAPIKeys(key))
//	…
//	srv.Shutdown(ctx)
//	s.Close()
//
// # Guarantees
//
//   - A name has one lock. A unique index ensures that, whatever the servers do.
//   - A lock acknowledged is a lock kept, and a deleted one stays deleted: every call waits for the
//     commit, with synchronous_commit at least on, whatever the setting of the database is.
//   - Each fencing token is greater than all before it, through whichever server, and at least the
//     microseconds since 1970 by the database's clock. So tokens go on rising when the schema was
//     dropped or a backup restored.
//   - Only the database's clock decides when a lock expires.
//   - Each lock that is deleted, by a program of whatever version, has one entry in the history. A
//     trigger writes it in the same transaction.
//   - An expired lock is swept once, by one of the servers, and all hear of it. Any server that is
//     left does it when the others die.
//   - A mark that was cancelled or claimed through one server is refused by all, also for a create
//     that had begun before: a claim waits for it and finds its lock. A claim is a row, which each
//     create of the mark reads under a lock that excludes claims; that costs no round trip.
//
// # Order
//
// Waiters on one server are served first come first served. Across servers, a free name goes to the
// one that has waited longest, by the database's clock, of the first waiters of the servers that
// have tried for the name. So a waiter that becomes the first of its server may be overtaken once
// by a younger one elsewhere; after that, only those that came before it are served first. No
// waiter starves.
//
// A server has half a second to take its turn. If it does not, because it died or is cut off, the
// next one has it. So each waiter that was the first of a killed server can leave the name idle for
// half a second, once. A server whose waiter has given up says so within 50 ms; until then a create
// that does not wait is delayed, not refused.
//
// The waiters of all servers are in a table for their lists, on which nothing depends. Those of a
// server that is silent for 10 s are ignored.
//
// # How servers hear of each other
//
// A server tells the others of its changes with NOTIFY, after the commit and on a connection of its
// own, so that transactions do not queue for PostgreSQL's lock on notifications. A waiter on
// another server gets a released lock within a millisecond or two beyond the round trips. A server
// that is alone notifies nobody.
//
// A lost notification costs only latency. When a server dies between its commit and the NOTIFY, the
// others notice within a second that a lock in the way of a waiter is gone. When the connection on
// which a server listens breaks, it checks for such locks five times a second until it listens
// again. It notices within 5 s that a connection has gone silent.
//
// # When PostgreSQL is unavailable
//
// Calls return [gitlab.com/relukko/relukko-go/server/store.ErrUnavailable]: immediately if
// connections are refused, otherwise after 2 s, or 3 s for a list and for a create with an unknown
// outcome, which is looked up by its id. The store reconnects by itself. A call that returns
// ErrUnavailable may have had its effect, or may have it later.
//
// # Connections
//
// A store opens up to 16 connections (pool_max_conns in the URL) and two more, but no more than the
// limits of the role, the database and the server allow; it needs at least two. When PostgreSQL
// refuses another connection all the same, because other programs use them, calls wait for a free
// one.
//
// # Failover
//
// These guarantees survive a failover only onto a synchronous replica: set
// synchronous_standby_names. With an asynchronous one, or a backup, acknowledged locks are lost, so
// that two clients can hold one name, and deleted ones are back. The clock of the replica should
// not differ from the primary's by more than the leases can bear. A store connects only to a
// database that takes changes (target_session_attrs=read-write unless the URL says otherwise), so
// the URL can name all hosts: postgres://db1,db2/relukko.
//
// While a synchronous replica is missing, commits hang, and calls return ErrUnavailable. The store
// never cancels such a commit: PostgreSQL would then show the lock although no replica has it. Each
// hanging commit keeps its connection in the database until the replica is back or is taken off the
// list.
//
// # Poolers
//
// PgBouncer and the like must be in session mode; better, leave them out, because a store keeps few
// connections. In other modes LISTEN does not work, and the settings of a session, above all
// synchronous_commit, apply to other connections than the transactions. Open finds out and returns
// an error.
//
// # Copies
//
// Dump of a Store, for a backup, is one transaction on a connection of its own. The functions Dump
// and Load are for a store that no server uses: each connection of a server has a share of an
// advisory lock that they need for themselves.
//
// # The schema
//
// Everything is in the schema relukko_go. Nothing else in the database is touched, in particular no
// table of the original Relukko. Open creates the schema and brings it up to date, one server at a
// time. It refuses a schema that is newer than it knows. Programs that know an older one go on
// beside newer ones: their locks and marks belong to "default", they see claimed marks as ones that
// were called off, and calls that are under way during a migration may fail. All of them may delete
// any lock, so stop them before keys of several owners are used.
//
// The database's encoding must be UTF8. The role needs CREATE on the database, or a schema
// relukko_go that it owns. If another role has created everything, it needs only
//
//	GRANT USAGE ON SCHEMA relukko_go TO relukko;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA relukko_go TO relukko;
//	GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA relukko_go TO relukko;
//
// and EXECUTE on the functions, which every role has by default. The tables are small and change
// all the time. A transaction that stays open for hours in the same database keeps autovacuum from
// removing dead rows; leave autovacuum on.
//
// # Commits
//
// A create, an update, a delete and a hand-over are one round trip and one commit each. While two
// are under way, those that come wait, and then up to 64 of them share a transaction: a server that
// has much to do makes fewer commits and uses few connections. A call does not suffer for the
// others in its transaction. When PostgreSQL reports an error, as when a row is not free within
// 0.1 s, all of it is rolled back, and each call has a transaction of its own. Transactions that
// take longer than 0.1 s keep no other from beginning. Measurements are in docs/performance.md.
package pgstore
