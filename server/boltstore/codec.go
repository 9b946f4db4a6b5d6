package boltstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"gitlab.com/relukko/relukko-go/internal/lockset"
)

// The file has three buckets. Each value but the format begins with a CRC-32C of the bucket's
// name, the key and the rest of the value. Numbers in keys are big-endian, so that keys sort like
// them.
const (
	bucketStore = "relukko"    // "format" → formatVersion in decimal, "state" → summary
	bucketLocks = "locks"      // fencing token → record
	bucketMarks = "called off" // number of the cancelled mark → mark

	keyFormat = "format"
	keyState  = "state"

	formatVersion = 3 // written with the first transaction; see the package's documentation

	// formerOwner is the owner of what formats 1 and 2 had.
	formerOwner = "default"

	hasCreator = 1 // bits of a record's byte before the creator
	hasOwner   = 2
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
	b := make([]byte, 0, 192)
	b = appendText(b, r.ID)
	b = appendText(b, r.Name)
	if r.Creator == nil {
		b = append(b, hasOwner)
	} else {
		b = append(b, hasOwner|hasCreator)
		b = appendText(b, *r.Creator)
	}
	b = appendText(b, r.Owner)
	b = appendText(b, r.IP)
	b = appendText(b, r.Mark)
	b = appendMoment(b, r.ExpiresAt)
	b = appendMoment(b, r.CreatedAt)
	b = appendMoment(b, r.UpdatedAt)
	if r.Leased {
		b = binary.BigEndian.AppendUint64(b, uint64(r.Lease.Microseconds()))
	}
	value, r.Sum = seal(bucketLocks, key, b)
	return value
}

func decodeRecord(key, value []byte) (*lockset.Record, error) {
	body, sum, err := unseal(bucketLocks, key, value)
	if err != nil {
		return nil, err
	}
	d := decoder{rest: body}
	r := &lockset.Record{Sum: sum}
	r.FencingToken = (&decoder{rest: key}).number()
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
	if r.Leased = len(d.rest) > 0; r.Leased {
		r.Lease = time.Duration(d.number()) * time.Microsecond
	}
	return r, d.end()
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
	for _, n := range []uint64{s.token, s.number, s.nLocks, s.nMarks, s.sum} {
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
