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
// The original Relukko API, with the same responses as far as its clients look at them: POST, GET,
// PUT and DELETE on /v1/locks, keep_alive and add_to_expire_at, /ws/broadcast, /healthchecker. It
// has these extensions, which clients need not know of:
//
//   - A create with the header "Prefer: wait=N" waits for a held name, for at most 30 s.
//   - DELETE /v1/waiting/{mark} calls off the create whose creator ends in " #mark". When it
//     returns, no lock of that create exists, and none comes to exist in the next 10 min.
//   - Responses to creates offer both, with "Relukko-Wait: 30" and "Relukko-Call-Off: 1".
//   - A 409 says which lock holds the name, and a broadcast which lock was created, updated or
//     deleted.
//   - GET /v1/locks/?lock_name=NAME returns only that lock, in an array. With waiters=1, locks in
//     responses to GET have the number of creates that wait for the name.
//   - Each lock has a fencing token, greater than those of all earlier locks of its name, even
//     after a backup was restored or the locks moved to another store.
//
// # Order
//
// Creates that wait on one server are served first come first served for each name. A create that
// does not wait never overtakes them. A delete grants the name to the next waiter in one step with
// the deletion, and before it is answered. A lock granted to a waiter lives 1 min until it is
// renewed, any other 10 min; so a client that vanished while it waited delays the others by its
// wait and that minute at most. A client that closes its connection leaves the queue immediately.
// If it was granted the lock at that instant, the lock is deleted, unless the create has a mark, by
// which its client may have found the lock already, or can call it off.
//
// Servers that share a store have separate queues. The store decides which server's first waiter
// gets a name that comes free.
//
// # Expiry
//
// An expired lock still holds its name for a grace, see [WithGrace], in which it can be read,
// renewed and deleted. Then the server deletes it, within a second. Only the store's clock counts.
//
// # Limits
//
// The body of a request may have 64 KiB and take 10 s to arrive. A name may have 255 bytes and a
// creator 1024, both without control characters. At most 5000 creates may wait, see
// [WithMaxWaiters], and 10,000 watchers listen. A watcher that lags by 4096 messages, or does not
// take one within 10 s, is disconnected. The number of locks is not limited: every client with a
// key can create any number of them, and delete those of others.
//
// What the server costs is in docs/performance.md.
package server
