// Package boltstore keeps the locks of one Relukko server in one file, with go.etcd.io/bbolt. It is
// the default store of relukko serve: nothing else has to be installed or running.
//
// # Guarantees
//
// A lock acknowledged is a lock kept. What a method has returned is on the disk and synced, and
// survives kill -9 at any instant, a crash of the machine and a loss of power: created locks with
// their times, owners and marks, deletions, cancelled marks. A call under way at that instant
// happens whole or not at all. This needs a disk that obeys fsync, which some consumer disks and
// network file systems do not, and a local file system with working file locks.
//
// No call returns what a crash could take back; see below.
//
// Each fencing token is greater than all that the file has given out, also for a name without a
// lock for years, and at least the clock in microseconds since 1970, so that tokens go on rising
// when a backup is restored or the file is lost.
//
// One process can use the file at a time. A second one gets an error within a second. If the file
// is moved, deleted or replaced while in use, nothing more is acknowledged until it is back.
//
// A file that is damaged or not a store is refused and left as it is: Open checks each page and the
// checksum of each lock and of each entry of the history, and sums show whether one is missing.
//
// # When the disk fails
//
// A call whose write fails returns
// [gitlab.com/relukko/relukko-go/server/store.ErrUnavailable], and its outcome is unknown. So do
// the calls that shared its write. The store then reads what is on the disk and goes on from that,
// as soon as the disk works again. Until then reads show what was acknowledged last. No call waits
// longer than 4 s for a disk that does not respond; its write may succeed later. Watch then says
// EventMissed, so that the server looks for names that have come free.
//
// When the disk is full, creates are refused with ErrNotDone. Renewals, releases and hand-overs go
// on: the file always has some space for them. Once a second a create finds out whether there is
// more.
//
// # When the clock is set
//
// Locks expire by the wall clock, because no other clock survives a restart. A clock set back by an
// hour lets the locks live an hour longer; their holders lose nothing. A clock set forward lets
// them expire that much earlier, while their holders rely on them: on a machine without a battery
// clock, start the server after the time is set. Cancelled marks are refused longer or shorter in
// the same way. Nothing else depends on the clock.
//
// # Cost
//
// A change, also a delete that hands the name on, costs one write and one sync. Calls that come
// during a write share the next one, up to 1024 of them. A call that comes alone is written
// immediately, unless eight or more have shared the last write: then it waits for others, for about
// 0.25 ms at most. Now and then, after 500 writes at most, a write is a checkpoint, which takes
// some milliseconds. Reads, creates of a held name and calls for a lock that is gone do not touch
// the disk. All locks are in memory too, at about 0.5 kB each. The history is in the file alone: it
// is written with the changes of its locks, and read between two writes. A new file has 9 MB. It
// does not shrink, but reuses its space. Claims are in memory only, because no create survives the
// process; a claim costs no write. Measurements are in docs/performance.md.
//
// # Copies
//
// Dump copies locks and marks at one instant, and then the history up to that instant in steps of
// 1000 entries, so that a slow reader holds up no change and does not make the file grow. Load
// makes a new file of such a copy.
//
// # The file
//
// A bbolt file with five buckets. Numbers in keys and values are big-endian. Each value but the
// format and the log begins with a CRC-32C of the bucket's name, the key and the rest of the value.
//
//	relukko     format → 4, in decimal
//	            state  → the last fencing token, the number of the last mark, the numbers of locks
//	                     and marks, the sum of their checksums, the number of entries of the
//	                     history, and the epoch of the log, 64 bits each
//	locks       fencing token → id, name, creator, owner, ip, mark, expires_at, created_at,
//	                               updated_at; the time waited unless it is 0; of a leased lock
//	                               also the lease that was set last
//	called off  number → until, mark, owner; of each cancelled mark
//	history     when the lock ended → id … updated_at and the time waited as in locks, without the
//	                               mark; fencing token, how it ended, by whom, reason
//	log         records → the write-ahead log
//
// The log has the changes since the last checkpoint. It is one value, whose pages but the first are
// written to directly. Each record begins with a page: the epoch in 64 bits, the size of what
// follows in 32 bits, and a CRC-32C of the epoch, the record's place in the log and what follows.
// That is, for each change, the names of bucket and key, and a byte 1 and the value, or a byte 0 if
// the key is removed. The last change is that of the state. The records of an epoch that is not the
// state's do not count. Where one of a later epoch follows, or a sound record follows one that is
// not, the file is damaged.
//
// A text begins with its length, as a varint. Before the creator is a byte: its bit 0 is set unless
// the creator is null, its bit 1 if there is an owner, its bit 2 if there is a time waited. Times
// are in microseconds since 1970, leases and times waited in microseconds. No two locks end at one
// time of the history: a time is the clock's, or just after the one before. Indexes are built when
// the file is opened. A change to any of this needs a new format number; Open refuses a file with a
// greater number than it knows. Format 1 had no leased locks, formats 1 and 2 had no owners and no
// history: what they have belongs to "default". Format 3 had no log, and the last entries of the
// history in a bucket "recent". Open reads them, and the first change makes format 4 of the file;
// what is not changed stays as it was written.
//
// # Why no call returns what a crash could take back
//
// There are two copies of the state in memory. One belongs to the committer, a goroutine that runs
// the requests of a batch one after the other, each on the result of those before it. The other,
// the view, serves all reads. It changes after a batch is synced, all at once, and before the calls
// of that batch return. Therefore:
//
//   - Get, List and Holder return what is durable, and at least what was acknowledged before.
//   - A result that was decided on another request of its batch, such as ErrHeld because of a lock
//     created an instant before, is returned after the sync that both share. If that fails, both
//     calls return ErrUnavailable.
//   - A refusal by the view (held, cancelled, superseded, gone) is right at that instant in the
//     order of durable changes. A name that is free in the view proves nothing, so such a create
//     goes to the committer.
//   - Nothing is read from the file while it is written: what is not synced yet, a loss of power
//     could take back.
//   - After a write has failed, the view shows the state before it. A request of that batch that
//     was committed all the same seems to happen later, when the store finds out or restarts. That
//     is correct, because it returned ErrUnavailable and nothing was decided in between: the store
//     settles which state it is before it decides on the next batch, see disk.recover.
//   - A process that dies between write and sync leaves pages in the kernel's memory, which the
//     next process reads as if they were on the disk. So Open writes the last meta page and the
//     last record again, and syncs them, before it shows anything.
package boltstore
