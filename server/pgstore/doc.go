// Package pgstore keeps the locks of Relukko servers in PostgreSQL (12 or later). Any number of servers on one database are
// one backend: clients may talk to any of them, and to another at any time.
//
//	store, err := pgstore.Open(ctx, "postgres://relukko:secret@db.example/relukko?sslmode=verify-full")
//	if err != nil { … }
//	srv := server.New(store, server.WithAPIKeys(key))
//	…
//	srv.Shutdown(ctx)
//	store.Close()
//
// # What is promised
//
//   - A name has one lock: a unique index sees to it, whatever the servers do.
//   - A lock acknowledged is a lock kept, and a deleted one stays deleted: every answer waits for PostgreSQL's commit, with
//     synchronous_commit at least on, whatever the database's own setting is.
//   - Fencing tokens rise in the order in which the locks of a name come to be, through whichever server. They come from one
//     sequence, drawn while no other create of that name can be under way.
//   - The clock of the database alone decides when a lock expires. Those of the servers do not matter.
//   - An expired lock is swept once, by one of the servers, and all hear of it. Any server that is left does it when others die.
//   - A create that was called off through one server is refused by all.
//
// # Who is next
//
// Waiters on one server are served first in, first out. Across servers, a name that comes free goes to the one who has waited for it
// longest, by the database's clock, of those who are at the head of their server's line and have tried for the
// name there. So a waiter who moves up to the head may be overtaken once by a younger one elsewhere, before he is known; from then on
// only by those who came before him. Nobody starves: neither those who come later, nor a long line on another server, nor creates
// that do not wait at all can pass him again and again.
//
// A server has half a second to take its turn. If it does not, because it has died or is cut off, the next one has his, so
// each waiter that a killed server had at the head of a line may leave that name idle for half a second, once. A server whose
// waiter has given up says so within some 50 ms; until then a create that does not wait is kept waiting, not refused.
//
// # How servers hear of each other
//
// What happens through one server is told to the others by NOTIFY, on a connection of its own and after the commit, so that
// transactions never queue for PostgreSQL's one lock on notifications. A waiter on another server has a released lock within a
// millisecond or two beyond the round trips. A server that is alone on the database tells nobody.
//
// Lost notifications cost latency, nothing else: when a server dies between its commit and the NOTIFY, the others see within a second
// that a lock is gone that stands in a waiter's way. When the connection on which a server listens breaks, it looks for
// such locks five times a second until it listens again. That a connection has gone dark is noticed within five seconds.
//
// # When PostgreSQL is gone
//
// Calls answer [store.ErrUnavailable], which servers answer with 503: at once where connections are refused, else after two seconds
// (three for a create whose answer was lost, and for a list). Nothing needs to be restarted; connections are made anew when it is back. A create
// whose answer was lost is looked up by its id. What says ErrUnavailable all the same may have happened, or yet happen; of creates
// in that doubt the server deletes what came of them (see [server.Store]).
//
// # Failover
//
// The promises above survive a failover only onto a synchronous replica: set synchronous_standby_names. Onto an
// asynchronous one, or from a backup, acknowledged locks are lost, so that two can hold one name, deleted ones are back, and fencing
// tokens repeat. After such an event, before any server is started, have the tokens go on above all that can have been given out:
//
//	SELECT setval('relukko_go.tokens', nextval('relukko_go.tokens') + 1000000000)
//
// The replica's clock should not differ from the primary's by more than the leases can bear. A store connects to a database that
// takes changes only (target_session_attrs=read-write unless the URL says otherwise), so the URL can name all hosts:
// postgres://db1,db2/relukko.
//
// While a synchronous replica is missing, commits hang, and calls answer ErrUnavailable. The store never cancels a commit that
// hangs: PostgreSQL would then show the lock to all, although no replica has it. Each hanging commit keeps its connection in the
// database until the replica is back or has been taken off the list.
//
// # Poolers
//
// PgBouncer and the like must be in session mode, or better be left out: a store keeps few connections. In transaction mode LISTEN
// is lost, which the store notices and logs: then waiters on other servers depend on the look that is taken
// five times a second. Worse, the settings of a session, above all synchronous_commit, would reach one connection and the transaction
// another. Do not do it.
//
// # The schema
//
// Everything is in the schema relukko_go; nothing else in the database is touched, in particular no table of the original
// Relukko. Open creates the schema and brings it up to date, one server at a time. A program refuses a schema that is newer than it
// knows. The database's encoding must be UTF8. The role needs CREATE on the database, or a schema relukko_go that it
// owns; where somebody else has created everything, it needs no more than
//
//	GRANT USAGE ON SCHEMA relukko_go TO relukko;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA relukko_go TO relukko;
//	GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA relukko_go TO relukko;
//
// and EXECUTE on the functions, which everybody has by default. The tables are small and change all the time. Transactions that
// stay open for hours anywhere in the same database keep autovacuum from clearing up behind them; let it run.
//
// # What it costs
//
// A create, an update and a delete are one statement and one commit each, a delete that hands the name on to the head of its own
// server's line is one round trip and one commit with it. What that allows on a given machine is told by
//
//	go test -run '^$' -bench Rounds -benchtime 5s ./server/pgstore
//
// which measures the store beside pgbench with an INSERT and a DELETE on a table with the same indexes, on a PostgreSQL with its default
// settings, started for the purpose. A store opens up to 16 connections (pool_max_conns in the URL) and two more.
package pgstore
