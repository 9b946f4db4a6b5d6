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
// overtakes them. A delete hands the name on before it is answered, and in one step. A lock granted from the queue lives one
// minute until it is renewed (any other ten), so a caller who vanished without closing his connection costs the others
// at most his wait and that minute. One who closed it leaves the line at once; if he was granted the lock in that very moment, it is
// taken back unless the first byte of its answer may have gone out, or he bears a mark: by that he may have found it already, and be
// using it, or he calls it off.
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
// The body of a request may have 64 KiB and take 10 s to arrive. A name may have 255 bytes, a creator 1024, both without
// control characters. At most 5000 creates may queue ([WithMaxWaiters]) and 10,000 watchers listen; a watcher that is 4096
// messages behind, or does not take one within 10 s, is disconnected. The number of locks is not limited: everybody with a key
// can make as many as he likes, and delete everybody else's.
//
// # What it costs
//
// Creates and deletes over HTTP on loopback, by clients of bare net/http with a name each, clients, server and database on the
// same 2 cores, which had other work besides: so compare figures within a row, not those of different rows. Rounds (a create and a delete) per
// second, and the median time of one request (one statement, with pgbench):
//
//	go test -run '^$' -bench Load -benchtime 1s ./server
//
//	clients   bare net/http     memory            bbolt             PostgreSQL        pgbench, the same two statements
//	1         8,700    34 µs    9,300    40 µs    1,000   0.45 ms     960   0.49 ms   2,000   0.19 ms
//	16        6,200   0.49 ms   9,900   0.41 ms   5,100    1.5 ms   2,800    2.5 ms   3,600    1.7 ms
//	64        5,600    2.4 ms   7,200    2.9 ms   4,300    5.7 ms   1,100     20 ms   1,800    7.8 ms
//	256       7,100     15 ms   5,700     19 ms   3,500     24 ms   1,400     94 ms
//
// In the same run the disk did 8,500 syncs/s, 106 µs each. Bare net/http is a handler that decodes a request and encodes
// an answer. What the server does beyond net/http is 6 µs and 22 allocations a round in memory (BenchmarkHandler).
//
// A lock that many queue for changes hands as often as the store can commit: a delete hands it to the head of the line in the
// same transaction. See BenchmarkTurns.
//
// What each lock, watcher or waiter costs, when there are more of them (2 cores, as above):
//
//	go test -run '^$' -bench Growth -benchtime 2000x ./server
//
//	                                               n         4n        16n
//	n = 250 watchers hear of a delete, each        17 µs     15 µs     16 µs
//	a turn in n = 312 waiters for one name         157 µs    132 µs    131 µs
//	a turn in n = 312 waiters for as many names    146 µs    148 µs    119 µs
//	one of n = 2,500 locks in a list, memory       1.9 µs    2.0 µs    1.6 µs
//	                                  bbolt        3.6 µs    3.9 µs    3.3 µs
//	one of n = 2,500 locks swept, memory           0.4 µs    0.8 µs    1.9 µs
//	                              bbolt            11 µs     8 µs      23 µs
//
// What is due is in a heap, so a sweep is not quite linear: O(n log n), and at 40,000 locks beyond what a processor's
// cache holds.
package server
