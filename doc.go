// Package relukko is a distributed mutex, in the style of [sync.Locker], over the Relukko lock
// service. It guards things that cannot be used twice at once: a robot arm on a test bench, a
// licence dongle, a staging server, a CI deploy slot.
//
//	client, err := api.FromEnv() // RELUKKO_BASE_URL, RELUKKO_API_KEY
//	…
//	defer client.Close()
//	arm := relukko.NewMutex(client, "robot-arm-1")
//
//	err = arm.Do(ctx, func(ctx context.Context) error {
//		return move(ctx) // ctx is done as soon as the lock is lost
//	})
//
// Where any one of several will do, benches that are alike or licences 1 to N, use a [Pool]. For
// all of several, or none, use a [MultiMutex].
//
// A lock on the backend has a lease: it expires unless it is renewed. [Mutex.Lock] returns a
// context, and renews the lease by heartbeats until [Mutex.Unlock]. If the lease cannot be renewed
// in time, or another client deletes the lock, the context ends with a [*LostError] as its cause.
// Work that stops with its context stops before another client can hold the lock, except after a
// deletion.
//
// # Guarantees
//
// They hold among well-behaved clients. A client whose key may do everything, such as one of
// RELUKKO_API_KEY, can delete or shorten any lock.
//
//  1. Loss is known before expiry. The context that Lock returns is done before the lease can have
//     ended on the backend, while this process runs, the backend's clock does not step, and no
//     other client shortens the lease. The lease counts from the instant before the last
//     acknowledged acquire or renewal was sent, on the local monotonic and wall clocks, whichever
//     says that more time has passed. The backend's clock is never compared with them. An outage
//     shorter than half the TTL loses nothing, if a round trip takes less than a thirtieth of the
//     TTL: from the first instant on our own backend, from the first heartbeat on others. A wall
//     clock that is set forward looks like a suspend: the lease is renewed within a second, or lost
//     if the step is longer than the lease.
//  2. A deletion by another client is known within a round trip of the backend's message. On other
//     backends than our own that begins with the first heartbeat: 1 s after Lock, or a third of a
//     shorter TTL. Without a WebSocket a deletion is known at the next heartbeat.
//  3. The cause is told. [context.Cause] returns a [*LostError], [ErrUnlocked] after Unlock,
//     [ErrHeldTooLong] with [WithMaxHold], or the cause of the parent context.
//  4. Cancelling the parent stops the work, never the lock. The lease is renewed until Unlock, so
//     that cleanup, with [Session.CleanupContext], is still inside the critical section.
//  5. Unlock tells the truth. nil means that the lock was held without a gap, and is released.
//     [Mutex.Unlock] lists what else it returns.
//  6. No orphans. A Lock or TryLock that returns an error leaves no lock on the backend once that
//     can be reached, whenever the call was cancelled and whichever reply was lost. Lock returns
//     promptly when its context ends. The cleanup goes on in the background, and
//     [api.Client.Shutdown] waits for it.
//  7. No missed wake-up. A waiter gets a released lock within a round trip or two while the backend
//     can push. Without push it asks at least every 5 s. On our own backend, over a WebSocket, a
//     waiter also keeps its place through broken connections and restarts of the server.
//  8. In one process too. Goroutines that share a Mutex exclude each other, first come, first
//     served. While one is between Lock and Unlock no other enters, even if the lock was lost. Two
//     goroutines of a [Pool] never have the same member.
//  9. Nothing hangs in silence. Lock returns an error when the backend refuses, when it responds
//     with nonsense, and after a minute without a useful answer. The error says who holds the
//     lock, or what the backend last said.
//  10. Nothing is left behind. After Unlock and Client.Close no goroutine, timer or connection
//     remains.
//  11. The key stays secret. It is in no log and no error, and no redirect's target receives it.
//  12. A crash costs TTL and a tenth. On our own backend a name whose holder has crashed is free
//     again when the lease and a tenth of it, at least 1 s and at most 10 s, have passed: after
//     66 s with the default TTL. On the original backend it takes the TTL and about 3 min, and
//     13 min if the holder crashes within its first second.
//  13. One fault never makes two. Recovery keeps the connections and locks that still work, and
//     its cost never grows with the product of clients and locks.
//
// # What no lease can do
//
// A process that is stopped (SIGSTOP, a paused VM) while its lease ends may act once more before it
// notices. Only the guarded thing can prevent that: it must refuse a fencing token smaller than the
// largest that it has seen. Our own backend gives each lock a FencingToken; see [Session.Info].
//
// # Backends
//
// The mutex works with every Relukko backend, over HTTP and a WebSocket for broadcasts. Package
// server and the command relukko serve are a backend with extensions: the stream, creates that wait
// on the server, leases, broadcasts that name the lock, fencing tokens. The mutex uses those that a
// backend has, and needs none. Package relukkotest has a backend for tests.
//
// The stream is one WebSocket over which a process acquires, renews and releases all its locks.
// Where WebSockets do not pass, or the backend has no stream, the mutex uses plain requests, and it
// returns to the stream once there is one. With plain requests alone a deletion is known at the
// next heartbeat, a waiter can lose its place in a restart of the server, and the cleanup of a Lock
// whose create had no response can take 75 s.
package relukko
