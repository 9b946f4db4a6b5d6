// Package relukko is a distributed mutex in the manner of [sync.Locker], over
// the Relukko lock service: a guard around things that cannot be shared twice
// at once, such as a robot arm on a test bench, a licence dongle, a staging
// server, a CI deploy slot.
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
// [Mutex.Lock] returns a guarded context, and a session behind it renews the
// lock by heartbeat until [Mutex.Unlock]. When it cannot be renewed in time, or
// somebody deletes it, the context ends before anybody else can be inside, with
// a [*LostError] as its cause. Work that honours its context stops in time.
//
// # Guarantees
//
// They hold among well-behaved clients: any Relukko client can delete or
// shorten any lock.
//
//  1. Loss is known before expiry. The guarded context is done before the lease
//     can have ended on the backend, as long as this process runs, the backend's
//     clock does not step and no other client shortens the lease. The lease is
//     counted from the instant before the last acknowledged acquire or renewal
//     was sent, on the local monotonic clock; the clocks of the two machines are
//     never compared. From the first heartbeat on, an outage shorter than half the
//     TTL loses nothing, where a round trip takes less than a thirtieth of it.
//     A wall clock that is set forward looks like a suspend: within a second the
//     backend is asked to renew the lock, and where the step is longer than the
//     lease, the lock counts as lost.
//  2. A lock that somebody deletes (on a web page, with relukko rm) is known to
//     be lost within a round trip of the backend's broadcast, from the first
//     heartbeat on (a second after Lock, or a third of a shorter TTL); without
//     a WebSocket at the next heartbeat.
//  3. The cause is told. [context.Cause] gives a [*LostError], [ErrUnlocked]
//     after Unlock, or the parent's cause.
//  4. Cancelling the parent stops the work, never the lock: it is renewed until
//     Unlock, so that cleanup, under [Session.Context], is still inside.
//  5. Unlock tells the truth: nil means held without a gap, and released. See
//     [Mutex.Unlock].
//  6. No orphans. A Lock or TryLock that returns an error leaves no lock behind,
//     whenever it was cancelled and whichever reply was lost, as soon as the
//     backend can be reached. Lock returns at once when its context ends; this
//     goes on behind it, and [api.Client.Close] waits for it.
//  7. No missed wake-up. A waiter gets a released lock within a round trip or
//     two while the backend can push; where it cannot, it is asked at least every
//     5 s.
//  8. In one process too: goroutines that share a Mutex exclude each other, first
//     come, first served. While one is between Lock and Unlock no other enters,
//     even if the lock was lost.
//  9. Nothing hangs in silence. A refusal ends Lock at once, and so does a minute
//     without word from the backend; the error says who holds the lock or what
//     the backend last said.
//  10. Nothing is left behind. After Unlock and Client.Close no goroutine, timer
//     or connection remains.
//  11. The key stays secret: in no log, no error, and at no redirect's target.
//
// # What no lease can do
//
// A process that is stopped (SIGSTOP, a paused VM) past the end of its lease
// cannot know that until it runs again, and can act before it learns. Only the
// thing that is guarded can stop that, by refusing a fencing token smaller than
// one that it has seen: see api.Lock's FencingToken, which our own backend gives
// to every lock ([Session.Info]).
//
// A crash costs time: the name stays taken for the TTL and then for the backend's
// grace of about 3 min, so for 4 min with the defaults. It is 13 min when the
// holder dies in its first second, before the first heartbeat has shortened the
// 10 min that a new lock has.
//
// # Backends
//
// The mutex works with every Relukko backend. Package server and the command
// relukko serve are one. It has extensions: waiting on the server, calling a
// create off, broadcasts that say which lock it was, fencing tokens. The mutex
// uses those that a backend has, and needs none. Package relukkotest has a
// backend for tests.
package relukko
