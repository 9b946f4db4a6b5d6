package boltstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

// The file has five buckets. Each value but the format begins with a CRC-32C of the bucket's
// name, the key and the rest of the value. Numbers in keys are big-endian, so that keys sort like
// them.
const (
	bucketStore   = "relukko"    // "format" → formatVersion in decimal, "state" → summary
	bucketLocks   = "locks"      // fencing token → record
	bucketMarks   = "called off" // number of the cancelled mark → mark
	bucketHistory = "history"    // when the lock ended → entry; no two end at one time
	bucketRecent  = "recent"     // the same: the last entries, see [state.stageEnded]

	keyFormat = "format"
	keyState  = "state"

	formatVersion = 3 // written with the first transaction; see the package's documentation

	// formerOwner is the owner of what formats 1 and 2 had.
	formerOwner = "default"

	hasCreator = 1 // bits of a record's byte before the creator
	hasOwner   = 2
	hasWaited  = 4
)

var (
	errChecksum = errors.New("a checksum is wrong")
	errCut      = errors.New("a record is cut short")
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
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

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
		return nil, 0, errCut
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
	b := appendRecord(make([]byte, 0, 192), r)
	if r.Leased {
		b = binary.BigEndian.AppendUint64(b, uint64(r.Lease.Microseconds()))
	}
	value, r.Sum = seal(bucketLocks, key, b)
	return value
}

// appendRecord appends what locks and entries of the history have in common.
func appendRecord(b []byte, r *lockset.Record) []byte {
	b = appendText(b, r.ID)
	b = appendText(b, r.Name)
	has := byte(hasOwner)
	if r.Creator != nil {
		has |= hasCreator
	}
	if r.Waited != 0 {
		has |= hasWaited
	}
	b = append(b, has)
	if r.Creator != nil {
		b = appendText(b, *r.Creator)
	}
	b = appendText(b, r.Owner)
	b = appendText(b, r.IP)
	b = appendText(b, r.Mark)
	b = appendMoment(b, r.ExpiresAt)
	b = appendMoment(b, r.CreatedAt)
	b = appendMoment(b, r.UpdatedAt)
	if r.Waited != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(r.Waited.Microseconds()))
	}
	return b
}

func decodeRecord(key, value []byte) (*lockset.Record, error) {
	body, sum, err := unseal(bucketLocks, key, value)
	if err != nil {
		return nil, err
	}
	d := decoder{rest: body}
	r := &lockset.Record{Sum: sum}
	r.FencingToken = (&decoder{rest: key}).number()
	d.record(r)
	if r.Leased = len(d.rest) > 0; r.Leased {
		r.Lease = d.duration()
	}
	return r, d.end()
}

// record reads what appendRecord has written.
func (d *decoder) record(r *lockset.Record) {
	r.ID = d.text()
	r.Name = d.text()
	has := d.byte()
	if has&hasCreator != 0 {
		creator := d.text()
		r.Creator = &creator
	}
	r.Owner = formerOwner
	if has&hasOwner != 0 {
		r.Owner = d.text()
	}
	r.IP = d.text()
	r.Mark = d.text()
	r.ExpiresAt = d.moment()
	r.CreatedAt = d.moment()
	r.UpdatedAt = d.moment()
	if has&hasWaited != 0 {
		r.Waited = d.duration()
	}
}

// encodeEnded returns the value of an entry of the history.
func encodeEnded(key []byte, e *store.Ended) (value []byte) {
	b := appendRecord(make([]byte, 0, 256), &lockset.Record{Lock: e.Lock, Waited: e.Waited})
	b = binary.BigEndian.AppendUint64(b, e.FencingToken)
	b = append(b, byte(e.How))
	b = appendText(b, e.By)
	value, _ = seal(bucketHistory, key, appendText(b, e.Reason))
	return value
}

func decodeEnded(key, value []byte) (e store.Ended, err error) {
	body, _, err := unseal(bucketHistory, key, value)
	if err != nil {
		return e, err
	}
	d := decoder{rest: body}
	var r lockset.Record
	d.record(&r)
	e.Lock, e.Waited = r.Lock, r.Waited
	e.FencingToken = d.number()
	e.How = store.How(d.byte())
	e.By = d.text()
	e.Reason = d.text()
	e.At = (&decoder{rest: key}).moment()
	return e, d.end()
}

// nameOfEnded returns the name in the value of an entry, unchecked.
func nameOfEnded(value []byte) string {
	d := decoder{rest: value[min(4, len(value)):]}
	d.text()
	return d.text()
}

// encodeMark returns the cancelled mark's value and sets its checksum.
func encodeMark(key []byte, m *lockset.Mark) (value []byte) {
	b := appendText(appendMoment(nil, m.Until), m.Mark)
	value, m.Sum = seal(bucketMarks, key, appendText(b, m.Owner))
	return value
}

func decodeMark(key, value []byte) (*lockset.Mark, error) {
	body, sum, err := unseal(bucketMarks, key, value)
	if err != nil {
		return nil, err
	}
	d := decoder{rest: body}
	m := &lockset.Mark{Number: (&decoder{rest: key}).number(), Sum: sum}
	m.Until = d.moment()
	m.Mark = d.text()
	if m.Owner = formerOwner; len(d.rest) > 0 {
		m.Owner = d.text()
	}
	return m, d.end()
}

func (s *summary) encode() (value []byte) {
	var b []byte
	for _, n := range []uint64{s.token, s.number, s.nLocks, s.nMarks, s.sum, s.nEnded} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	value, _ = seal(bucketStore, []byte(keyState), b)
	return value
}

func decodeSummary(value []byte) (s summary, err error) {
	body, _, err := unseal(bucketStore, []byte(keyState), value)
	if err != nil {
		return s, err
	}
	d := decoder{rest: body}
	for _, n := range []*uint64{&s.token, &s.number, &s.nLocks, &s.nMarks, &s.sum} {
		*n = d.number()
	}
	if len(d.rest) > 0 { // formats 1 and 2 have no history
		s.nEnded = d.number()
	}
	return s, d.end()
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendMoment appends a time in microseconds since 1970.
func appendMoment(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixMicro()))
}

// decoder reads a body piece by piece. After an error it returns zeros.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.err, d.rest = errCut, nil
		return nil
	}
	piece := d.rest[:n]
	d.rest = d.rest[n:]
	return piece
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) number() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) moment() time.Time { return time.UnixMicro(int64(d.number())).UTC() }

func (d *decoder) duration() time.Duration {
	return time.Duration(d.number()) * time.Microsecond
}

func (d *decoder) text() string {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.err, d.rest = errCut, nil
		return ""
	}
	d.rest = d.rest[size:]
	return string(d.take(n))
}

func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		return errors.New("a record is too long")
	}
	return d.err
}
