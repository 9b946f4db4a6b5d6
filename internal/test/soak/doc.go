// Package soak has no code of its own: its test lets real processes fight over
// real locks on a real backend, while others kill, stop and cut them off.
//
//	go test ./internal/test/soak                                     # 15 s of faults on each store
//	go test ./internal/test/soak -run Soak -v -soak=10m -timeout=20m # ten minutes on each
//
// # What happens
//
// Six worker processes, three goroutines each, take four locks with TTLs of
// 1 and 2 s: with Lock and TryLock, with deadlines and cancellations. Each
// reaches the backend by a way of its own (a proxy). The backend is relukko
// serve: one process on bbolt, three over one PostgreSQL database, where every
// connection goes to any of the three. Meanwhile
//
//   - workers and servers are killed (kill -9) and started again,
//   - workers and servers are stopped and continued (SIGSTOP, SIGCONT), or
//     killed while they stand still,
//   - the ways go dark (bytes vanish, nothing closes) or are cut, also those
//     from the servers to PostgreSQL,
//   - locks are deleted by hand, as anybody with the API key can do.
//
// The grace is none in most of the rounds, so that the locks of the killed are
// granted again at once, and 2 s in the others. Between two rounds the servers are
// ended in order and started again, and PostgreSQL is killed.
//
// # What must hold
//
// Every stay in a lock writes its fencing token, again and again, to a file
// that refuses tokens lower than the highest that it has taken. Workers log
// with CLOCK_MONOTONIC, which all processes of a machine share. An instant
// counts as held if the session (or, in half of the processes, only the
// guarded context) said so after the clock was read, so that no delay
// on the way to the log can make a stay look longer. Then
//
//   - no two stays in one lock overlap. Where only the context was asked, an
//     overlap is no fault while its process stood still: stopped by us, or kept
//     from running by the machine for so long that it noticed itself. A session
//     is never excused: it looks at the clock. After a lock was deleted by hand
//     its holder has one TTL to notice;
//   - no write is refused to a holder whose session vouches for it;
//   - tokens are never given twice, and rise from stay to stay;
//   - no lock is gone from the backend before the end of its lease but by hand;
//   - when the faults end every goroutine of every worker gets a lock once
//     more, releases it, closes its client and ends; no lock of theirs is left,
//     and in the end none at all. The servers then end in order.
//
// What is not asserted is speed: on a machine that is busy there are fewer
// sections, and that is all. All processes end with the test, whatever ends it.
//
// # When it fails
//
// Chance decides what happens when, so a run cannot be repeated. With -artifacts
// the journals, the registers, the logs of all processes and what the backend
// said of its locks every 0.3 s (seen) are kept. Instants in all of them are
// those of CLOCK_MONOTONIC, in nanoseconds, but in the logs.
//
// The test needs Linux, and PostgreSQL for its second half (see internal/pgtest).
package soak
