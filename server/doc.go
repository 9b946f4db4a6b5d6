// Package server is the Relukko backend: an [http.Handler] that keeps locks in a [Store].
//
//	store := server.NewMemoryStore()
//	srv := server.New(store, server.WithAPIKeys("some key"))
//	web := &http.Server{Addr: "127.0.0.1:3000", Handler: srv, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
//	go web.ListenAndServe()
//	…
//	srv.Shutdown(ctx) // first: an http.Server does not wait for WebSockets, and would wait for those who queue
//	web.Shutdown(ctx)
//
// # What it answers
//
// The original Relukko API, byte for byte as far as its clients look: POST, GET, PUT and DELETE on /v1/locks, keep_alive and
// add_to_expire_at, /ws/broadcast, /healthchecker. Beyond that it has extensions, each of which [WithoutExtensions] switches off:
//
//   - A create with the header "Prefer: wait=N" queues for a held name, up to 30 s.
//   - DELETE /v1/waiting/{mark} calls off the create whose creator ends in " #mark": queued, granted, under way or yet to
//     come, no lock of it is left or made within the next 10 min. Every answer to a create says that this can be had:
//     "Relukko-Call-Off: 1", beside the "Relukko-Wait: 30" of the first one.
//   - A 409 says who holds the name, a GET how many wait for it, a broadcast which lock it is about.
//   - Each lock has a fencing token, larger than that of every earlier lock of the name.
//
// # Who is next
//
// Creates that wait on one server are served first in, first out for each name, and a create that does not wait never
// overtakes them. A delete hands the name on before it is answered. A lock granted from the queue lives one minute until it is
// renewed (any other ten), so a caller who vanished without closing his connection costs the others
// at most his wait and that minute. One who closed it leaves the line at once; if he was granted the lock in that very moment, it is
// taken back unless the first byte of its answer may have gone out.
//
// Several servers on one shared store have a line each. Which of their heads gets a name that comes free is up to the store.
//
// # Expiry
//
// An expired lock holds its name for a grace ([WithGrace]), in which it can still be read, kept alive and deleted. Then it is
// deleted within a second. The clock of the store decides, no other.
//
// # Limits
//
// Bodies have 64 KiB and 10 s; names 255 bytes, creators 1024, both without control characters; 5000 creates may queue
// ([WithMaxWaiters]) and 10,000 watchers listen; a watcher that is 4096 messages behind, or does not take one within 10 s, is
// disconnected. Locks are not limited: everybody with a key can make as many as he likes, and delete everybody else's.
package server
