// Package backup writes the content of a store into a file, and reads it again. A file that is cut,
// or damaged anywhere, is refused.
//
// A file begins with a line, "relukko backup 1". Blocks follow:
//
//	kind      one byte
//	length    of the records, 32 bits
//	records
//	checksum  CRC-32C of all that comes before it in the file, 32 bits
//
// So a block that is missing, moved or of another file is noticed as well. The fields of a record
// are those of package codec.
//
//	H  one record: when the content was as it is, the last fencing token, the number of
//	   locks, that of marks
//	L  locks, as many as a block has: id, name, creator, owner, ip, expires_at, created_at,
//	   updated_at, fencing token, the time waited, mark, and of a leased lock the lease that
//	   was set last. A byte before the creator: bit 0 is set unless it is null, bit 1 if the
//	   lock is leased
//	M  cancelled marks: owner, mark, until
//	E  entries of the history: a lock as far as the time waited, when and how it ended, by
//	   whom, reason
//	Z  the end, one record: the number of entries
//
// The blocks come in this order, and nothing comes after the end. A change needs a new number in
// the first line.
package backup
