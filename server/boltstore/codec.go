package boltstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"gitlab.com/relukko/relukko-go/internal/codec"
	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

// The buckets of the file. Each value but the format and the log begins with a CRC-32C of the
// bucket's name, the key and the rest of the value. Numbers in keys are big-endian, so that keys
// sort like them.
const (
	bucketStore   = "relukko"    // "format" → formatVersion in decimal, "state" → summary
	bucketLocks   = "locks"      // fencing token → record
	bucketMarks   = "called off" // number of the cancelled mark → mark
	bucketHistory = "history"    // when the lock ended → entry; no two end at one time
	bucketLog     = "log"        // "records" → the write-ahead log
	bucketRecent  = "recent"     // of format 3: the last entries of the history

	keyFormat  = "format"
	keyState   = "state"
	keyRecords = "records"

	formatVersion = 4 // written with the first change; see the package's documentation

	// formerOwner is the owner of what formats 1 and 2 had.
	formerOwner = "default"

	hasCreator = 1 // bits of a record's byte before the creator
	hasOwner   = 2
	hasWaited  = 4
)

var (
	errChecksum = errors.New("a checksum is wrong")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

// summary is what the store remembers beside locks and marks, and how it knows on opening that it
// has found all of them.
type summary struct {
	token  uint64 // the last fencing token given out
	number uint64 // of the last cancelled mark
	nLocks uint64
	nMarks uint64
	sum    uint64 // of the checksums of all locks and cancelled marks
	nEnded uint64 // entries of the history
	epoch  uint64 // of the log; it counts in a checkpoint only
}

func numberKey(n uint64) []byte { return codec.AppendNumber(nil, n) }

// seal returns the value for a body, and its checksum.
func seal(bucket string, key, body []byte) (value []byte, sum uint32) {
	sum = checksum(bucket, key, body)
	value = make([]byte, 0, 4+len(body))
	value = binary.BigEndian.AppendUint32(value, sum)
	return append(value, body...), sum
}

// unseal returns the body of a value that seal made.
func unseal(bucket string, key, value []byte) (body []byte, sum uint32, err error) {
	if len(value) < 4 {
		return nil, 0, codec.ErrCut
	}
	body, sum = value[4:], binary.BigEndian.Uint32(value)
	if sum != checksum(bucket, key, body) {
		return nil, 0, errChecksum
	}
	return body, sum, nil
}

func checksum(bucket string, key, body []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(bucket))
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, body)
}

// encodeRecord returns the record's value and sets its checksum.
func encodeRecord(key []byte, r *lockset.Record) (value []byte) {
	b := appendRecord(make([]byte, 0, 192), &r.Record)
	if r.Leased {
		b = codec.AppendDuration(b, r.Lease)
	}
	value, r.Sum = seal(bucketLocks, key, b)
	return value
}

// appendRecord appends what locks and entries of the history have in common.
func appendRecord(b []byte, r *store.Record) []byte {
	b = codec.AppendText(b, r.ID)
	b = codec.AppendText(b, r.Name)
	has := byte(hasOwner)
	if r.Creator != nil {
		has |= hasCreator
	}
	if r.Waited != 0 {
		has |= hasWaited
	}
	b = append(b, has)
	if r.Creator != nil {
		b = codec.AppendText(b, *r.Creator)
	}
	b = codec.AppendText(b, r.Owner)
	b = codec.AppendText(b, r.IP)
	b = codec.AppendText(b, r.Mark)
	b = codec.AppendMoment(b, r.ExpiresAt)
	b = codec.AppendMoment(b, r.CreatedAt)
	b = codec.AppendMoment(b, r.UpdatedAt)
	if r.Waited != 0 {
		b = codec.AppendDuration(b, r.Waited)
	}
	return b
}

func decodeRecord(key, value []byte) (*lockset.Record, error) {
	body, sum, err := unseal(bucketLocks, key, value)
	if err != nil {
		return nil, err
	}
	d := codec.Decoder{Rest: body}
	r := &lockset.Record{Sum: sum}
	r.FencingToken = (&codec.Decoder{Rest: key}).Number()
	record(&d, &r.Record)
	if r.Leased = len(d.Rest) > 0; r.Leased {
		r.Lease = d.Duration()
	}
	return r, d.End()
}

// record reads what appendRecord has written.
func record(d *codec.Decoder, r *store.Record) {
	r.ID = d.Text()
	r.Name = d.Text()
	has := d.Byte()
	if has&hasCreator != 0 {
		creator := d.Text()
		r.Creator = &creator
	}
	r.Owner = formerOwner
	if has&hasOwner != 0 {
		r.Owner = d.Text()
	}
	r.IP = d.Text()
	r.Mark = d.Text()
	r.ExpiresAt = d.Moment()
	r.CreatedAt = d.Moment()
	r.UpdatedAt = d.Moment()
	if has&hasWaited != 0 {
		r.Waited = d.Duration()
	}
}

// encodeEnded returns the value of an entry of the history.
func encodeEnded(key []byte, e *store.Ended) (value []byte) {
	b := appendRecord(make([]byte, 0, 256), &store.Record{Lock: e.Lock, Waited: e.Waited})
	b = codec.AppendNumber(b, e.FencingToken)
	b = append(b, byte(e.How))
	b = codec.AppendText(b, e.By)
	value, _ = seal(bucketHistory, key, codec.AppendText(b, e.Reason))
	return value
}

func decodeEnded(key, value []byte) (e store.Ended, err error) {
	body, _, err := unseal(bucketHistory, key, value)
	if err != nil {
		return e, err
	}
	d := codec.Decoder{Rest: body}
	var r store.Record
	record(&d, &r)
	e.Lock, e.Waited = r.Lock, r.Waited
	e.FencingToken = d.Number()
	e.How = store.How(d.Byte())
	e.By = d.Text()
	e.Reason = d.Text()
	e.At = (&codec.Decoder{Rest: key}).Moment()
	return e, d.End()
}

// nameOfEnded returns the name in the value of an entry, unchecked.
func nameOfEnded(value []byte) string {
	d := codec.Decoder{Rest: value[min(4, len(value)):]}
	d.Text()
	return d.Text()
}

// encodeMark returns the cancelled mark's value and sets its checksum.
func encodeMark(key []byte, m *lockset.Mark) (value []byte) {
	b := codec.AppendText(codec.AppendMoment(nil, m.Until), m.Mark)
	value, m.Sum = seal(bucketMarks, key, codec.AppendText(b, m.Owner))
	return value
}

func decodeMark(key, value []byte) (*lockset.Mark, error) {
	body, sum, err := unseal(bucketMarks, key, value)
	if err != nil {
		return nil, err
	}
	d := codec.Decoder{Rest: body}
	m := &lockset.Mark{Number: (&codec.Decoder{Rest: key}).Number(), Sum: sum}
	m.Until = d.Moment()
	m.Mark = d.Text()
	if m.Owner = formerOwner; len(d.Rest) > 0 {
		m.Owner = d.Text()
	}
	return m, d.End()
}

func (s *summary) encode() (value []byte) {
	var b []byte
	for _, n := range []uint64{s.token, s.number, s.nLocks, s.nMarks, s.sum, s.nEnded,
		s.epoch} {
		b = codec.AppendNumber(b, n)
	}
	value, _ = seal(bucketStore, []byte(keyState), b)
	return value
}

func decodeSummary(value []byte) (s summary, err error) {
	body, _, err := unseal(bucketStore, []byte(keyState), value)
	if err != nil {
		return s, err
	}
	d := codec.Decoder{Rest: body}
	for _, n := range []*uint64{&s.token, &s.number, &s.nLocks, &s.nMarks, &s.sum} {
		*n = d.Number()
	}
	if len(d.Rest) > 0 { // formats 1 and 2 have no history
		s.nEnded = d.Number()
	}
	if len(d.Rest) > 0 { // format 3 has no log
		s.epoch = d.Number()
	}
	return s, d.End()
}
