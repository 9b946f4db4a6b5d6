package backup

import (
	"hash/crc32"

	"gitlab.com/relukko/relukko-go/internal/codec"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	firstWords = "relukko backup "
	firstLine  = firstWords + "1\n"

	kindHead    = 'H'
	kindLocks   = 'L'
	kindMarks   = 'M'
	kindHistory = 'E'
	kindEnd     = 'Z'

	headSize  = 5        // kind and length of a block
	sumSize   = 4        // its checksum
	blockSize = 64 << 10 // a block is not added to when it has so many bytes
	maxBlock  = 64 << 20

	hasCreator = 1 // bits of the byte before the creator
	isLeased   = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends a lock that is held.
func appendRecord(b []byte, r *store.Record) []byte {
	b = codec.AppendText(appendLock(b, r), r.Mark)
	if r.Leased {
		b = codec.AppendDuration(b, r.Lease)
	}
	return b
}

// record reads what appendRecord has written.
func record(d *codec.Decoder) store.Record {
	r := lock(d)
	r.Mark = d.Text()
	if r.Leased {
		r.Lease = d.Duration()
	}
	return r
}

// appendLock appends what locks and entries of the history have in common.
func appendLock(b []byte, r *store.Record) []byte {
	b = codec.AppendText(codec.AppendText(b, r.ID), r.Name)
	has := byte(0)
	if r.Creator != nil {
		has |= hasCreator
	}
	if r.Leased {
		has |= isLeased
	}
	b = append(b, has)
	if r.Creator != nil {
		b = codec.AppendText(b, *r.Creator)
	}
	b = codec.AppendText(codec.AppendText(b, r.Owner), r.IP)
	b = codec.AppendMoment(codec.AppendMoment(b, r.ExpiresAt), r.CreatedAt)
	b = codec.AppendNumber(codec.AppendMoment(b, r.UpdatedAt), r.FencingToken)
	return codec.AppendDuration(b, r.Waited)
}

func lock(d *codec.Decoder) (r store.Record) {
	r.ID, r.Name = d.Text(), d.Text()
	has := d.Byte()
	if has&hasCreator != 0 {
		creator := d.Text()
		r.Creator = &creator
	}
	r.Leased = has&isLeased != 0
	r.Owner, r.IP = d.Text(), d.Text()
	r.ExpiresAt, r.CreatedAt, r.UpdatedAt = d.Moment(), d.Moment(), d.Moment()
	r.FencingToken, r.Waited = d.Number(), d.Duration()
	return r
}

// appendEnded appends an entry of the history.
func appendEnded(b []byte, e *store.Ended) []byte {
	b = appendLock(b, &store.Record{Lock: e.Lock, Waited: e.Waited})
	b = append(codec.AppendMoment(b, e.At), byte(e.How))
	return codec.AppendText(codec.AppendText(b, e.By), e.Reason)
}

// ended reads what appendEnded has written.
func ended(d *codec.Decoder) store.Ended {
	r := lock(d)
	e := store.Ended{Lock: r.Lock, Waited: r.Waited, At: d.Moment()}
	e.How, e.By, e.Reason = store.How(d.Byte()), d.Text(), d.Text()
	return e
}
