// Package api is a client of the whole Relukko API. It is for programs that need the locks
// themselves: to list who holds what, to delete a forgotten lock, to use other rules than those of
// a mutex. For mutual exclusion use the Mutex of package relukko, which is built on this package.
//
// # A tour
//
// [New] and [FromEnv] return a [Client] of one backend. A Client is safe for concurrent use and
// keeps connections open. Create one for a process, and call [Client.Close] at the end.
//
//	client, err := api.FromEnv()
//	…
//	defer client.Close()
//	lock, err := client.Create(ctx, "robot-arm-1", "bench-7")
//	if errors.Is(err, api.ErrHeld) { … } // another client holds it
//	defer client.Delete(ctx, lock.ID)
//
// A new lock expires after ten minutes unless [Client.KeepAlive] moves its expiry in time. On a
// backend whose keys have no roles, any client may change and delete any lock.
//
// # Errors
//
// A response that is not what was requested is an *[Error], with its status and message. [ErrHeld],
// [ErrGone] and [ErrRefused] are the common kinds, for errors.Is. Every other failure, such as a
// broken network or the end of a context, is an error that unwraps to its cause. Two functions
// classify every error: [Transient] reports whether the same request may succeed later, [NoEffect]
// whether it certainly had no effect.
//
// Proxies and gateways respond too. [Error.Own] reports that the backend itself refused, in its own
// JSON. ErrGone and ErrRefused require it, so a 404 or a 403 of a proxy is neither.
//
// Responses are checked before they are used: a lock must have a UUID, a name and three times, and
// must be the lock that the request was about. Anything else is an error. The size of a response
// and the time for it are limited. The API key appears in no error, no log and no printed Client.
// No redirect is followed, since the key would be sent along.
//
// # Retries and time-outs
//
// [Client.Create], [Client.AddToExpiry] and [Client.Backup] make one attempt. All other calls may
// be repeated without harm. After a transient failure they retry, with exponential backoff (50 ms
// to 2 s, with jitter, or longer if the backend sends Retry-After), until the context ends, or for
// a minute if it has no deadline. A call that has no time for another attempt returns the last
// failure immediately. With [Once] any call makes one attempt.
//
// One attempt takes at most 5 s, one of [Client.List], [Client.Find], [Client.History] and
// [Client.Waiting] at most 60 s. The time for which a create may wait on the server is added.
//
// # Connections
//
// Connections are kept for 60 s after their last use. Only [Client.Close] closes them earlier: a
// failure of one does not close the others. If an attempt on a kept connection times out, the next
// one uses a new connection; with [FreshConn] every attempt does. If a host has several addresses,
// they are dialed 250 ms apart, beginning with the one that worked last, and the first connection
// is used.
//
// # Push
//
// [Client.Watch] reports locks that are created, changed and deleted. All Watches of a Client share
// one WebSocket. Events are hints: they can be late or lost, and only a response of the backend
// decides.
package api
