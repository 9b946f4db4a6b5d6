// Package boltstore keeps the locks of one Relukko server in one file, by go.etcd.io/bbolt. It is the default store
// of relukko serve: nothing else has to be installed or running.
//
// # What is promised
//
// A lock acknowledged is a lock kept. What a method has answered is on the disk by then, synced, and is there after
// kill -9 at any instant, a crash of the machine and a loss of power: created locks with their times and marks,
// deletions, marks that were called off. What was under way happened whole or not at all. Two things have to be true
// for that: the disk does what it is told by fsync (some consumer disks and some network file systems don't), and the
// file lies on a local file system, where the operating system's file locks work.
//
// Nobody sees what a crash could take back; see below.
//
// Fencing tokens come from one counter for all names, which goes on where it was: a token is never given out twice
// and is greater than all before it, also when its name has had no lock for years. The counter of a new file starts
// from the clock, in microseconds, and is advanced to the clock when the file is opened: so tokens go on rising also
// when a backup is restored or the file is lost, while the clock is right.
//
// One process at a time. A second one that opens the file is refused within a second, with a message. A file that is
// moved, deleted or replaced while in use is noticed: nothing more is acknowledged until it is back.
//
// A file that is not a store, or damaged, is refused and left as it is: each page is checked when the file is opened,
// each lock bears a checksum, and a sum over all shows when one is missing.
//
// # When the disk fails
//
// A request whose write fails (the disk is full, an I/O error) is answered with server.ErrUnavailable and may have
// happened or not; so are those that shared its transaction. The store then finds out what is on the disk, and goes
// on from that: by itself, as soon as the disk works again. What can be read meanwhile is what was acknowledged last.
// A disk that does not answer at all holds up nobody for more than 4 s; what was begun by then may still come about
// later. Watch then tells the server that something happened which nobody was told about, so that it looks for names
// that have come free.
//
// # When the clock is set
//
// Expiry is by the wall clock, because nothing else goes on through a restart. A clock that is set back by an hour,
// whether the store is open or not, lets the locks that are there live for an hour longer; their holders lose
// nothing. Set forward, it lets them expire that much earlier, while their holders still count on them: so start a
// machine without a clock of its own only once it has got the time. Marks that were called off are refused longer or
// shorter in the same way. Nothing else depends on the clock: tokens rise, names are exclusive, and List is in the
// order of creation.
//
// # What it costs
//
// A change, also a delete that hands its name on, costs one transaction, that is two syncs, one after the other: bbolt
// writes new pages, syncs them, then the page that makes them valid, and syncs that. Requests that come while a
// transaction is under way share the next one, up to 1024 of them. Nobody waits for company: a lone request begins its
// transaction at once. Reads, creates of a name that is held, and requests for a lock that is gone never touch the
// disk. So one client that creates and deletes, which is four syncs a round, gets somewhat less than a quarter of what
// the disk can do, and many clients together nearly as many times more as they are, until the processor is busy. For
// example, where BenchmarkSync does 9300 syncs/s, 102 µs each:
//
//	clients   rounds/s   median of a create or delete   transactions a round
//	1            1,770                         276 µs   2
//	16          21,000                         341 µs   0.14
//	64          44,000                         562 µs   0.044
//
// All locks are in memory too (about 0.5 kB a lock); opening reads the whole file (100,000 locks: 0.13 s). The file
// does not shrink; space that locks and marks have left is used again. Of the marks that were called off the last
// 100,000 are remembered.
//
// # The file
//
// A bbolt file with three buckets. Numbers in keys and values are big-endian. A value, but for the format, begins
// with a CRC-32C over the bucket's name, the key and what follows.
//
//	relukko     format → 1, in decimal
//	            state  → the last fencing token, the number of the last mark, how many locks and marks there
//	                     are, and the sum of all their checksums, 64 bits each
//	locks       fencing token → id, name, creator, ip, mark, expires_at, created_at, updated_at
//	called off  number → until, mark
//
// Texts have their length in front, as a varint; the creator has a byte before that, 0 for null. Times are in
// microseconds since 1970. Indexes are not on disk: they are made when the file is opened. Whoever changes any of
// this gives the format a higher number; a file with a number that is higher than known is refused.
//
// # Why nobody sees what a crash could take back
//
// There are two copies of the state in memory. One is the committer's, a single goroutine: it runs the requests of a
// batch on it, one after the other, so that each is decided on what those before it did. That is the order of all
// things. The other copy, the view, is what all reads are answered from; it changes after the transaction of a batch
// is synced, all at once, and before anybody of that batch is answered. Hence:
//
//   - A Get, List or Holder shows what is durable. It is never behind what was acknowledged before it was asked.
//   - An answer that was decided on another request of the same batch (a 409 by a lock that was created an instant
//     before, a "gone" because of a delete) is given after the sync that both share. If that fails, neither is told
//     anything but ErrUnavailable.
//   - A refusal straight from the view (held, called off, gone) is right at that instant in the order of durable
//     things. A delete of that lock may be on its way to the disk; it has not happened yet, and nobody was told that
//     it has. The other way round, a name that is free in the view proves nothing: such a create goes to the
//     committer.
//   - bbolt's own read transactions are not used for any answer: they see a transaction between the write of its last
//     page and the sync of it, when a loss of power can still take it back.
//   - After a write that has failed it is not known whether it came about. The view keeps showing the state before. A
//     request of the failed batch that did come about will seem to have happened later, when the store finds out or
//     after a crash: which is in order, because it was answered with ErrUnavailable, and nothing was decided in
//     between; before the next batch is, the store settles which of the two states it is (see disk.recover).
//   - A process that dies between write and sync leaves pages in the kernel's memory, which the next process reads as
//     if they were on the disk. So opening writes the last page once more and syncs it, before anything is shown.
package boltstore
