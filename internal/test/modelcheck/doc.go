// Package modelcheck has no code but tests: a model check of the mutex.
//
// A seed makes a plan: clients, mutexes that goroutines share, what each of
// them calls and when, and what goes wrong meanwhile (deletions and expiries by
// others, restarts with and without the locks, replies that are cut, late or
// false, dark networks, lost WebSockets, clients that close), on a backend with
// all extensions, with some, or with none. The plan is carried out in a
// testing/synctest bubble, where an hour takes no longer than its requests, and
// what happened is checked afterwards:
//
//   - No two guarded contexts are live for one name at one instant, unless the
//     earlier holder's lock was taken away from outside; then that is known
//     within the time that guarantee 2 allows.
//   - Contexts end before the lease does on the backend's own record, and an
//     outage shorter than half the TTL ends none.
//   - Every Lock, TryLock and Unlock returns in time and tells the truth.
//   - No waiter sits by a name that is free.
//   - Nothing is left: no lock, no goroutine, no unfinished cleanup.
//   - Fencing tokens rise, causes are right, losses are told once.
//   - What clients were answered is a linearizable history of a lock.
//
// Each go test runs some hundred seeds. More of them, or one:
//
//	go test ./internal/test/modelcheck -seeds 5000
//	go test ./internal/test/modelcheck -seed 17 -count 20
//
// A seed determines calls, faults and their instants, but neither the
// scheduler's choices nor the jitter of the client: a failure that hangs on
// those may need some repetitions.
package modelcheck
