package boltstore

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/internal/codec"
)

const (
	walPage   = 4096    // the pages of the log, whatever those of the file are
	walHeader = 16      // of a record: epoch uint64, size of the body uint32, CRC-32C uint32
	epochStep = 1 << 24 // from one epoch to the next, at most
)

// wal is the write-ahead log: a value in the file, in whose place records are written. Bbolt never
// writes the value again, so it stays where it is.
//
// A record has the changes of one write and the summary after it. It is appended when those before
// it are synced, and has pages of its own, so that writing it touches no other. So a record that is
// not whole is the last one, and was never acknowledged. A checkpoint, which is a transaction of
// bbolt, makes the changes of all records. With it begins a new epoch, so that no earlier record
// counts any more. Epochs rise, so that a record shows if the meta page of its checkpoint was lost,
// and by random numbers, so that no text of a client can pass for a record.
type wal struct {
	page    int64    // the size of the file's pages
	at      int64    // in the file; 0: there is no log
	size    int64    // in bytes
	base    *summary // of the last checkpoint
	next    int64    // where in the log the next record goes
	last    []byte   // the record before it, after read
	pending []change // of all records
	cost    int64    // of a checkpoint of pending, see costOf
}

// createLog makes the log, unless there is one. Its value has that size; a page of it is not used.
func createLog(tx *bolt.Tx, size int) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucketLog))
	if err == nil && b.Get([]byte(keyRecords)) == nil {
		err = b.Put([]byte(keyRecords), make([]byte, size))
	}
	return err
}

// nextEpoch returns the number of an epoch; 0 is before the first.
func nextEpoch(epoch uint64) uint64 {
	var b [8]byte
	rand.Read(b[:])
	n := binary.BigEndian.Uint64(b[:])
	if epoch == 0 {
		return n >> 1
	}
	return epoch + 1 + n%epochStep
}

// findLog returns the log without its records, if there is one.
func findLog(tx *bolt.Tx) (*wal, error) {
	b := tx.Bucket([]byte(bucketStore))
	if b == nil || tx.Bucket([]byte(bucketLocks)) == nil || tx.Bucket([]byte(bucketMarks)) == nil {
		return nil, errors.New("a part is missing")
	}
	base, err := decodeSummary(b.Get([]byte(keyState)))
	if err != nil {
		return nil, fmt.Errorf("summary: %w", err)
	}
	l := &wal{page: int64(tx.DB().Info().PageSize), base: &base}
	if b = tx.Bucket([]byte(bucketLog)); b == nil {
		return l, nil
	}
	size := int64(len(b.Get([]byte(keyRecords))))
	if b.Root() == 0 || size < walPage || size%walPage != 0 {
		return nil, errors.New("the log has a wrong size")
	}
	// The value begins in the first page of its bucket, after some headers.
	l.at, l.size = int64(b.Root())*l.page+walPage, size-walPage
	return l, nil
}

// read reads the records.
func (l *wal) read(file io.ReaderAt) error {
	log := make([]byte, l.size)
	if _, err := file.ReadAt(log, l.at); err != nil {
		return err
	}
	for {
		epoch, body := l.parse(log, l.next)
		if body == nil || epoch != l.base.epoch {
			break
		}
		changes, err := decodeChanges(body)
		if err != nil {
			return fmt.Errorf("log: record %d: %w", l.next, err)
		}
		l.last = log[l.next : l.next+pagesOf(body)]
		l.appended(l.last, changes)
	}
	for at := l.next; at < l.size; at += walPage {
		switch epoch, body := l.parse(log, at); {
		case body == nil:
		case epoch == l.base.epoch:
			return fmt.Errorf("log: record %d: %w", l.next, errChecksum)
		case epoch > l.base.epoch && epoch <= l.base.epoch+epochStep:
			return errors.New("log: the checkpoint before it is missing")
		}
	}
	return nil
}

// pagesOf returns the size of the pages of a record.
func pagesOf(body []byte) int64 {
	return (walHeader + int64(len(body)) + walPage - 1) / walPage * walPage
}

// parse returns the epoch and the body of the record at a position of the log, or nil if there is
// none.
func (l *wal) parse(log []byte, at int64) (epoch uint64, body []byte) {
	if at >= l.size {
		return 0, nil
	}
	r := log[at:]
	epoch, size := binary.BigEndian.Uint64(r), int64(binary.BigEndian.Uint32(r[8:]))
	if size == 0 || size > int64(len(r)-walHeader) {
		return 0, nil
	}
	body = r[walHeader : walHeader+size]
	if binary.BigEndian.Uint32(r[12:]) != checksumOf(epoch, at, body) {
		return 0, nil
	}
	return epoch, body
}

// checksumOf returns the checksum of a record, which counts in its place only.
func checksumOf(epoch uint64, at int64, body []byte) uint32 {
	place := codec.AppendNumber(codec.AppendNumber(nil, epoch), uint64(at))
	return crc32.Update(crc32.Checksum(place, castagnoli), castagnoli, body)
}

// record returns the next record, or nil if it does not fit into the log.
func (l *wal) record(changes []change, s *summary) []byte {
	if l.at == 0 {
		return nil
	}
	r := make([]byte, walHeader, walPage)
	for i := range changes {
		r = appendChange(r, &changes[i])
	}
	r = appendChange(r, &change{bucket: bucketStore, key: []byte(keyState), value: s.encode()})
	body := r[walHeader:]
	if pagesOf(body) > l.size-l.next {
		return nil
	}
	binary.BigEndian.PutUint64(r, l.base.epoch)
	binary.BigEndian.PutUint32(r[8:], uint32(len(body)))
	binary.BigEndian.PutUint32(r[12:], checksumOf(l.base.epoch, l.next, body))
	return append(r, make([]byte, pagesOf(body)-int64(len(r)))...)
}

// appended adds a record that is in the file.
func (l *wal) appended(record []byte, changes []change) {
	l.next += int64(len(record))
	l.pending = append(l.pending, changes...)
	l.cost += l.costOf(changes)
}

// costOf returns how much of the file a checkpoint of these changes takes at most, in bytes. What
// is new goes to the ends of its buckets, in pages that are half full at least; the page of what is
// older is written again.
func (l *wal) costOf(changes []change) (cost int64) {
	for i := range changes {
		c := &changes[i]
		cost += 2 * int64(elementSize+len(c.key)+len(c.value))
		number := (&codec.Decoder{Rest: c.key}).Number()
		if c.bucket == bucketLocks && number <= l.base.token ||
			c.bucket == bucketMarks && number <= l.base.number {
			cost += l.page
		}
	}
	return cost
}

// latest returns the last change of each key, in the order of the keys.
func latest(changes []change) []change {
	slices.SortStableFunc(changes, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), bytes.Compare(a.key, b.key))
	})
	n := 0
	for i, c := range changes {
		if i+1 == len(changes) || c.bucket != changes[i+1].bucket ||
			!bytes.Equal(c.key, changes[i+1].key) {
			changes[n] = c
			n++
		}
	}
	return changes[:n]
}

func appendChange(b []byte, c *change) []byte {
	b = codec.AppendText(b, c.bucket)
	b = codec.AppendText(b, string(c.key))
	if c.value == nil {
		return append(b, 0)
	}
	return codec.AppendText(append(b, 1), string(c.value))
}

func decodeChanges(body []byte) (changes []change, err error) {
	d := codec.Decoder{Rest: body}
	for len(d.Rest) > 0 {
		c := change{bucket: d.Text(), key: []byte(d.Text())}
		if d.Byte() != 0 {
			c.value = []byte(d.Text())
		}
		changes = append(changes, c)
	}
	return changes, d.End()
}
