package backup

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"gitlab.com/relukko/relukko-go/internal/codec"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Write writes the content to w, in pieces of about 64 kB.
func Write(w io.Writer, c *store.Content) error {
	out := &writer{w: w}
	out.block = append(out.block, firstLine...)
	head := codec.AppendNumber(codec.AppendMoment(nil, c.At), c.Token)
	head = codec.AppendNumber(codec.AppendNumber(head, uint64(len(c.Locks))), uint64(len(c.Marks)))
	out.begin(kindHead)
	out.block = append(out.block, head...)
	for i := range c.Locks {
		if err := out.next(kindLocks); err != nil {
			return err
		}
		out.block = appendRecord(out.block, &c.Locks[i])
	}
	for _, m := range c.Marks {
		if err := out.next(kindMarks); err != nil {
			return err
		}
		out.block = codec.AppendText(codec.AppendText(out.block, m.Owner), m.Mark)
		out.block = codec.AppendMoment(out.block, m.Until)
	}
	entries := uint64(0)
	for e, err := range c.History {
		if err == nil {
			err = out.next(kindHistory)
		}
		if err != nil {
			return err
		}
		out.block = appendEnded(out.block, &e)
		entries++
	}
	if err := out.flush(); err != nil {
		return err
	}
	out.begin(kindEnd)
	out.block = codec.AppendNumber(out.block, entries)
	return out.flush()
}

// writer writes blocks.
type writer struct {
	w     io.Writer
	kind  byte
	block []byte // the one that is filled, and for the first the line before it
	start int    // of the block
	sum   uint32 // of all that was written
}

// begin begins a block. None may be open.
func (w *writer) begin(kind byte) {
	w.kind, w.start = kind, len(w.block)
	w.block = append(w.block, kind, 0, 0, 0, 0)
}

// next makes sure that a block of the kind is open, and not full.
func (w *writer) next(kind byte) error {
	if w.kind == kind && len(w.block) < blockSize {
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.begin(kind)
	return nil
}

// flush writes the open block.
func (w *writer) flush() error {
	binary.BigEndian.PutUint32(w.block[w.start+1:], uint32(len(w.block)-w.start-headSize))
	w.sum = crc32.Update(w.sum, castagnoli, w.block)
	w.block = binary.BigEndian.AppendUint32(w.block, w.sum)
	w.sum = crc32.Update(w.sum, castagnoli, w.block[len(w.block)-sumSize:])
	_, err := w.w.Write(w.block)
	w.block = w.block[:0]
	return err
}
