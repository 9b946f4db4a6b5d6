// Package soak has no code of its own. Its test lets real processes compete for
// real locks on a real backend, while it kills them, stops them and cuts them off.
//
//	go test ./internal/test/soak                                     # 15 s on each store
//	go test ./internal/test/soak -run Soak -v -soak=10m -timeout=20m # 10 min on each
//
// # What happens
//
// Six worker processes, three goroutines each, take four locks with TTLs of
// 1 and 2 s: with Lock and TryLock, with deadlines and cancellations. Each
// reaches the backend through a proxy of its own. The backend is relukko serve:
// one process on bbolt, three over one PostgreSQL database, where every
// connection goes to any of the three. Meanwhile
//
//   - workers and servers are killed (kill -9) and started again,
//   - workers and servers are stopped and continued (SIGSTOP, SIGCONT), or
//     killed while they are stopped,
//   - proxies go dark (bytes vanish, nothing closes) or are cut, including those
//     between the servers and PostgreSQL,
//   - locks are deleted by hand, as anybody with the API key can do.
//
// In most rounds there is no grace, so that the locks of killed workers are
// granted again at once; in the others it is 2 s. Between two rounds the servers
// are stopped in an orderly way and started again, and PostgreSQL is killed.
//
// # What must hold
//
// Every tenure writes its fencing token, again and again, to a file that refuses
// tokens lower than the highest that it has accepted. Workers log with
// CLOCK_MONOTONIC, which all processes of a machine share. An instant counts as
// held if the session (or, in half of the processes, only the guarded context)
// was live after the clock was read, so that no delay on the way to the log can
// make a tenure look longer. Then
//
//   - no two tenures of one lock overlap. Where only the context was checked, an
//     overlap is no fault while its process did not run: stopped by the test, or
//     kept from running by the machine for so long that it noticed itself. A
//     session is never excused: it reads the clock. After a deletion by hand the
//     holder has one TTL to notice;
//   - no write is refused to a holder whose session is live;
//   - no token is given twice, and tokens rise from tenure to tenure;
//   - no lock is gone from the backend before the end of its lease, except after
//     a deletion by hand;
//   - when the faults end, every goroutine of every worker gets a lock once more,
//     releases it, closes its client and ends; no lock of theirs is left, and in
//     the end none at all. The servers then end in an orderly way.
//
// Speed is not asserted: a busy machine only does fewer tenures. All processes
// end with the test, however it ends.
//
// # When it fails
//
// Chance decides what happens when, so a run cannot be repeated. With -artifacts
// the test keeps the journals, the registers, the logs of all processes, and what
// the backend listed every 0.3 s (seen). Instants are those of CLOCK_MONOTONIC in
// nanoseconds, except in the logs.
//
// The test needs Linux, and PostgreSQL for its second half (see internal/test/pgtest).
package soak
