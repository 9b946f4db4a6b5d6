// Package modelcheck has no code but tests: a model check of the mutex.
//
// A seed makes a plan: clients, mutexes that goroutines share, what each of
// them calls and when, and which faults happen meanwhile. Faults are deletions
// and expiries by others, restarts with and without the locks, replies that are
// cut, late or false, dark networks, lost WebSockets, store calls that are slow or
// whose outcome is unknown, and clients that close. The clients use plain requests
// with an original backend or ours, or the stream with ours. A stream also breaks
// before or after any frame, and its clients may move between two servers on one
// store. Two plans of three have pools and MultiMutexes. The plan runs in a
// testing/synctest bubble, where an hour takes no longer than its requests.
// Afterwards the test checks what happened:
//
//   - No two guarded contexts of one name are live at one instant, unless the
//     earlier holder's lock was taken away from outside; then the holder learns
//     of that within the time that guarantee 2 allows.
//   - Contexts end before the lease does in the backend's own record, and an
//     outage shorter than half the TTL ends none.
//   - Every Lock, TryLock and Unlock returns in time and tells the truth.
//   - No waiter waits for a name that is free, or a MultiMutex for names that all
//     are, beyond a reservation for another MultiMutex.
//   - A Lock of a pool has one lock. One of a MultiMutex has all from one instant
//     on, or none.
//   - Nothing is left: no lock, no goroutine, no unfinished cleanup.
//   - Fencing tokens rise, causes are right, and each loss is reported once.
//   - The replies to the clients are a linearizable history of a lock, or of all
//     locks together where several are acquired at one instant.
//
// A plain go test runs 300 seeds. More of them, or one:
//
//	go test ./internal/test/modelcheck -seeds 5000
//	go test ./internal/test/modelcheck -seed 17 -count 20
//
// A seed determines calls, faults and their instants, but neither the
// scheduler's choices nor the client's jitter. A failure that depends on those
// may need some repetitions.
package modelcheck
