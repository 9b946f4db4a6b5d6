// Package codec writes and reads the fields of binary records: what the files of a store and
// backups have in common. Numbers are big-endian; a text begins with its length, as a varint.
package codec

import (
	"encoding/binary"
	"errors"
	"time"
)

// ErrCut means that a record ends within a field.
var ErrCut = errors.New("a record is cut short")

// AppendText appends a text.
func AppendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendNumber appends a number.
func AppendNumber(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

// AppendMoment appends a time in microseconds since 1970.
func AppendMoment(b []byte, t time.Time) []byte { return AppendNumber(b, uint64(t.UnixMicro())) }

// AppendDuration appends a duration in microseconds.
func AppendDuration(b []byte, d time.Duration) []byte {
	return AppendNumber(b, uint64(d.Microseconds()))
}

// Decoder reads a record field by field. After an error it returns zeros.
type Decoder struct {
	Rest []byte // what is not read yet
	Err  error
}

func (d *Decoder) take(n uint64) []byte {
	if n > uint64(len(d.Rest)) {
		d.Err, d.Rest = ErrCut, nil
		return nil
	}
	piece := d.Rest[:n]
	d.Rest = d.Rest[n:]
	return piece
}

// Byte reads a byte.
func (d *Decoder) Byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// Number reads what AppendNumber has written.
func (d *Decoder) Number() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Moment reads what AppendMoment has written.
func (d *Decoder) Moment() time.Time { return time.UnixMicro(int64(d.Number())).UTC() }

// Duration reads what AppendDuration has written.
func (d *Decoder) Duration() time.Duration { return time.Duration(d.Number()) * time.Microsecond }

// Text reads what AppendText has written.
func (d *Decoder) Text() string {
	n, size := binary.Uvarint(d.Rest)
	if size <= 0 {
		d.Err, d.Rest = ErrCut, nil
		return ""
	}
	d.Rest = d.Rest[size:]
	return string(d.take(n))
}

// End returns the error, also when not all was read.
func (d *Decoder) End() error {
	if d.Err == nil && len(d.Rest) > 0 {
		return errors.New("a record is too long")
	}
	return d.Err
}
