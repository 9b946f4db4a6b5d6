// Package server is the Relukko backend: an [http.Handler] that keeps locks in a store.
//
//	srv := server.New(memstore.New(), server.WithAPIKeys("some key"))
//	web := &http.Server{
//		Addr:              "127.0.0.1:3000",
//		Handler:           srv,
//		ReadHeaderTimeout: 10 * time.Second,
//		IdleTimeout:       2 * time.Minute,
//	}
//	go web.ListenAndServe()
//	…
//	srv.Shutdown(ctx) // first: web.Shutdown would wait for the creates that wait
//	web.Shutdown(ctx)
//
// # The API
//
// The server implements the original Relukko API: POST, GET, PUT and DELETE on /v1/locks,
// keep_alive and add_to_expire_at, /ws/broadcast, /healthchecker. Its responses are the same in all
// that the existing clients use. These extensions are optional for clients:
//
//   - A create with the header "Prefer: wait=N" waits for a held name, for at most N seconds, up to
//     30.
//   - A create with "Prefer: lease=N" makes a leased lock, which expires N seconds after its
//     creation, also when it has waited. N may have a fraction; it is from 0.5 s to 365 d, or is
//     ignored. "Preference-Applied" in the response names the preferences that were honoured.
//   - Responses to creates offer the wait, with "Relukko-Wait: 30".
//   - GET /v1/waiting/ lists the requests that wait, in the order in which they will be served.
//   - GET /v1/history/ lists the locks that have ended, and how, by whom and why, the newest first.
//     See [WithHistory] and docs/configuration.md.
//   - GET /v1/backup returns all that the store has, to keys of admins. The command relukko
//     restores it.
//   - A DELETE with the header "X-Relukko-Reason", or with a key of another name than the lock's
//     owner, breaks the lock: the history says so.
//   - GET /v1/stream is a WebSocket over which one process acquires, waits for, renews and releases
//     all its locks, and hears of their losses. A place in a queue outlives its connection by 10 s.
//   - A 409 contains the lock that holds the name, and a broadcast the lock that was created,
//     updated or deleted.
//   - GET /v1/locks/?lock_name=NAME returns only that lock, in an array. With waiters=1, locks in
//     responses to GET contain the number of requests that wait for the name.
//   - A DELETE with the mark of the lock in the header "Relukko-Mark" comes from its holder. If a
//     proxy repeats it, each server on the store gives the same response again, for a minute.
//   - Each lock has an owner, the name of the key that created it: "default" with [WithAPIKeys].
//   - Each lock has a fencing token, greater than those of all earlier locks of its name, even
//     after a backup was restored or the locks were moved to another store.
//
// # Checks and metrics
//
// GET /livez returns 200 while the process handles requests, GET /readyz if the store responds
// within 2 s and the server is not being shut down, and else 503; both without a key. What the
// server does is reported to the observer of [WithObserver]; package metrics has one.
//
// # Keys
//
// A request without a key of the server gets 403, or 429 with Retry-After when its address has sent
// more than 20 wrong ones within a minute. Keys of [WithAPIKeys] may do everything. Those of
// [WithKeys] have a role: a viewer reads, a user also creates locks and changes those of its own
// name, an admin also changes those of others. Their patterns limit the names of the locks that
// they may create and change. What a key may not do gets 403; on a stream, names that it may not
// lock are left out where it asks for any of several. [access.Key.May] has the rules, and
// [Server.SetKeys] says what happens when keys change.
//
// # The page
//
// With [WithPage] the server has a page for browsers at GET /, and what belongs to it under /lock,
// /sign-in, /sign-out, /page and /static. Those who sign in do there what their key may do over
// HTTP. It should be served at the root of a host of its own: its links and its cookie assume that.
//
// # Order
//
// Requests that wait on one server for the same name, on streams or over HTTP, are served in the
// order in which they arrived. On a stream, each step of priority counts as 10 min of waiting, and
// what a client has waited on a connection that broke counts too. A create that does not wait never
// overtakes them. One that is refused while others wait keeps its rank for 5 min, so that a client
// that tries again and again has its turn. A delete grants the name to the next waiter in the same
// step, before the server responds to it. Servers that share a store have separate queues; the
// store decides which server's first waiter gets a name that becomes free.
//
// A lock granted to a waiter expires after 1 min unless it is renewed, any other after 10 min; a
// leased lock expires after its lease. So a client that crashes while it waits delays the others at
// most by the rest of its wait, by the time after which its lock expires, and by the grace. A
// client that closes its connection leaves the queue immediately. If it was granted the lock at
// that instant, the server deletes the lock, unless the create has a mark: then the client may have
// found the lock by its mark.
//
// # Expiry
//
// An expired lock keeps its name for a grace, see [WithGrace], in which it can be read, renewed and
// deleted. Then the server deletes it, within a second. Only the store's clock counts.
//
// The grace of a leased lock is a tenth of the lease that was set last, by its creation or a
// renewal: at least 1 s, at most 10 s. A renewal without a preference keeps a lock leased. Where
// the expiry is set or moved, what is left then counts as the lease. After the start of the server,
// a step of the store's clock by more than a second, or a sleep of the machine, no leased lock is
// deleted for one lease, at most 1 min, so that its holder can renew it first.
//
// # Limits
//
// The body of a request is limited to 64 KiB, and must arrive within 10 s. A name has at most 255
// bytes, a creator 1024, both without control characters. At most 20,000 requests wait, see
// [WithMaxWaiters], and at most 10,000 WebSockets are open. Keys of one name have limits of their
// own, unless they are an admin's: see [WithMaxAcquires] and [WithMaxRequests], and half of the
// WebSockets. At most 8 lists at a time are sent to clients with keys of one name, 32 to all;
// others wait for up to 5 s. A client that does not take 64 KiB of a list within 10 s, or not all
// of it within 1 min, is cut off. What is refused because of a limit gets 429 or 503, with
// Retry-After.
//
// A WebSocket that does not accept a message within 10 s is closed, and so is one of /ws/broadcast
// that lags by 4096 messages. From a stream with 1000 messages to be sent nothing is read; one that
// is silent for 60 s is closed. A message on it is limited to 64 KiB. The number of locks is not
// limited.
//
// The file docs/performance.md has measurements.
package server
