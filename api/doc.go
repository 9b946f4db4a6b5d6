// Package api speaks the whole Relukko API. It is for tools that need the locks
// themselves: a list of who holds what, a command that ends a forgotten lock, a
// lock with other rules than those of a mutex. For mutual exclusion use the
// Mutex of package relukko, which is built on this package.
//
// # A tour
//
// [New] and [FromEnv] make a [Client] of one backend. A Client is safe for use
// by any number of goroutines and keeps connections open. Make one for a
// process and call [Client.Close] in the end.
//
//	client, err := api.FromEnv()
//	…
//	defer client.Close()
//	lock, err := client.Create(ctx, "robot-arm-1", "bench-7")
//	if errors.Is(err, api.ErrHeld) { … } // another client holds it
//	defer client.Delete(ctx, lock.ID)
//
// A lock expires (ten minutes after its creation, where the backend is not told
// otherwise) unless [Client.KeepAlive] moves its expiry in time. Where keys
// have no roles, any client may change and delete any lock.
//
// # Errors
//
// An answer that is not what was asked for is an *[Error], with the status and
// the message. [ErrHeld], [ErrGone] and [ErrRefused] name the common kinds, for
// errors.Is. Any other failure (a network that fails, a context that ends) is
// an error that unwraps to its reason. For every error two functions help to go
// on: [Transient] reports whether the same request may succeed later, [NoEffect]
// whether it certainly did nothing.
//
// Proxies and gateways answer, too. [Error].Own says that the backend itself
// refused, in its own JSON. ErrGone and ErrRefused depend on it, so that no
// proxy can end a lock by a 404 or a 403.
//
// Answers are checked before they are used. A lock has a UUID, a name and three
// times, and the answer about one lock must be that lock; anything else is an
// error. Answers are bounded in size and time. The API key appears in no error,
// no log and no printed Client, and no redirect is followed, since the key would
// be sent along.
//
// # Retries and time-outs
//
// [Client.Create] and [Client.AddToExpiry] make one attempt. All other calls can
// be repeated without harm, and are: after a transient failure they retry with
// exponential backoff (50 ms to 2 s, with jitter; longer where the backend says
// Retry-After) until the context ends, or for a minute when it has no deadline.
// A call whose next attempt would come too late returns the last failure
// immediately. [Once] makes a single attempt of any call.
//
// One attempt takes at most 5 s, that of [Client.List] and [Client.Find] 60 s.
// A create that waits on the server gets its wait on top.
//
// # Connections
//
// Connections are kept for 60 s after their last use. Only [Client.Close] closes
// them earlier: whatever fails, what still works is left alone. After a time-out
// on a kept connection the next attempt takes a new one; [FreshConn] does so
// from the start. The addresses of a name are dialed 250 ms apart, the one that
// worked last before all others, and the first connection wins.
//
// # Push
//
// [Client.Watch] reports locks that are created, changed and deleted, over one
// WebSocket that all Watches of a Client share. Events are hints: they can be
// late or lost, and only asking the backend decides.
package api
