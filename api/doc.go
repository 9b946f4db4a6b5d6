// Package api speaks the whole Relukko API, for those who want the locks
// themselves: a list of who holds what, a tool that ends a forgotten lock, a
// lock with another discipline than that of a mutex. Those who want mutual
// exclusion use the Mutex of package relukko, which is built on this one.
//
// # A tour
//
// [New] and [FromEnv] make a [Client] of one backend. It is safe for use by any
// number of goroutines and keeps connections open; make one for a process and
// [Client.Close] it in the end.
//
//	client, err := api.FromEnv()
//	…
//	defer client.Close()
//	lock, err := client.Create(ctx, "robot-arm-1", "bench-7")
//	if errors.Is(err, api.ErrHeld) { … } // somebody else holds it
//	defer client.Delete(ctx, lock.ID)
//
// A lock is not held for ever: it expires (ten minutes after its creation,
// where the backend is not told otherwise) unless [Client.KeepAlive] moves
// that on in time. Any client may change and delete any lock.
//
// # Errors
//
// An answer that is not what was asked for is an *[Error]: [ErrGone],
// [ErrHeld], [ErrRefused] by errors.Is, with the status and what the backend
// said. Everything else (a network that fails, a context that ends) comes as
// an error that unwraps to its reason. Two questions are answered for both:
// [Transient] (may the same request succeed later?) and [NoEffect] (did it
// certainly have no effect?).
//
// What comes back is trusted only as far as it has been checked. An answer
// that is not a lock is an error, never a lock: a lock has a UUID, a name and
// three times, and the answer about a certain lock is about that lock.
// Answers are bounded in size and time, redirects are not followed, since the
// API key would be sent along, and the key is in no error, no log and no
// printed Client.
//
// # Retries and time-outs
//
// All calls but [Client.Create] and [Client.AddToExpiry] can be repeated
// without harm, and are: transient failures are retried with exponential
// backoff (50 ms to 2 s, with jitter; longer where the backend says
// Retry-After) until the context ends, or for a minute when it has no
// deadline. A call whose next attempt would come too late returns the last
// failure instead of waiting for the deadline.
//
// One attempt takes at most 5 s (60 s for [Client.List]; a create that waits
// on the server gets its wait on top). When one has timed out all idle
// connections are closed, so that the next attempt does not take another
// connection to a network that has gone dark.
//
// # Push
//
// [Client.Watch] tells of locks that are created, changed and deleted, over
// one WebSocket that all Watches of a Client share. It is a hint and can be
// late or lost; asking the backend decides.
package api
