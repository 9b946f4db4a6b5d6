package backup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/codec"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Read returns the content that is in r. Only when the History has ended without an error, the file
// is known to be whole. Each error says where the file is damaged.
func Read(r io.Reader) (*store.Content, error) {
	in := &reader{r: bufio.NewReaderSize(r, 1<<18)}
	c, err := in.content()
	if err != nil {
		return nil, in.explain(err)
	}
	c.History = func(yield func(store.Ended, error) bool) {
		for entries := uint64(0); ; entries++ {
			e, err := in.nextEnded(entries)
			if err == io.EOF || !yield(e, in.explain(err)) || err != nil {
				return
			}
		}
	}
	return c, nil
}

var (
	errForeign = errors.New("the backup does not begin as one of relukko does")
	errCut     = errors.New("it is cut short")
	errSum     = errors.New("a checksum is wrong")
	errContent = errors.New("it has other records than it should")
	errMore    = errors.New("something follows its end")
)

// reader reads blocks, and their records.
type reader struct {
	r    *bufio.Reader
	sum  uint32 // of all that was read
	at   int64  // where the block begins
	next int64  // where it ends

	kind    byte
	records codec.Decoder // those of the block that are not read yet
	buffer  []byte
}

// explain says where the file is damaged.
func (r *reader) explain(err error) error {
	switch {
	case err == nil || errors.Is(err, errForeign):
		return err
	case errors.Is(err, errCut):
		return fmt.Errorf("the backup is cut short: it ends within the part that begins at byte %d",
			r.at)
	}
	return fmt.Errorf("the backup is damaged in the part that begins at byte %d: %w", r.at, err)
}

// content reads all but the history.
func (r *reader) content() (*store.Content, error) {
	if err := r.readLine(); err != nil {
		return nil, err
	}
	if err := r.need(kindHead); err != nil {
		return nil, err
	}
	c := &store.Content{At: r.records.Moment(), Token: r.records.Number()}
	locks, marks := r.records.Number(), r.records.Number()
	if err := r.records.End(); err != nil {
		return nil, err
	}
	for range locks {
		if err := r.need(kindLocks); err != nil {
			return nil, err
		}
		c.Locks = append(c.Locks, record(&r.records))
	}
	for range marks {
		if err := r.need(kindMarks); err != nil {
			return nil, err
		}
		c.Marks = append(c.Marks, store.Mark{
			Owner: r.records.Text(), Mark: r.records.Text(), Until: r.records.Moment(),
		})
	}
	return c, nil
}

// readLine reads the first line.
func (r *reader) readLine() error {
	slice, err := r.r.ReadSlice('\n')
	line := string(slice)
	switch {
	case err == bufio.ErrBufferFull:
		return errForeign
	case line == firstLine:
		r.sum = crc32.Checksum([]byte(line), castagnoli)
		r.next = int64(len(line))
		r.at = r.next
		return nil
	case err != nil && err != io.EOF:
		return err
	case err != nil && strings.HasPrefix(firstLine, line):
		return errCut
	case strings.HasPrefix(line, firstWords) && len(line) < 2*len(firstLine):
		return fmt.Errorf("%w: its first line is %q, which another version of relukko has "+
			"written; this version knows %q. Use the other version",
			errForeign, strings.TrimSpace(line), strings.TrimSpace(firstLine))
	}
	return errForeign
}

// nextEnded reads an entry of the history; io.EOF: there were so many, and the file is whole.
func (r *reader) nextEnded(entries uint64) (store.Ended, error) {
	if err := r.more(); err != nil {
		return store.Ended{}, err
	}
	if r.kind != kindEnd {
		if err := r.need(kindHistory); err != nil {
			return store.Ended{}, err
		}
		e := ended(&r.records)
		return e, r.records.Err
	}
	if r.records.Number() != entries || r.records.End() != nil {
		return store.Ended{}, errContent
	}
	switch _, err := r.r.ReadByte(); err {
	case nil:
		r.at = r.next
		return store.Ended{}, errMore
	default: // io.EOF is what is expected
		return store.Ended{}, err
	}
}

// need makes sure that there is another record of the kind.
func (r *reader) need(kind byte) error {
	if err := r.more(); err != nil {
		return err
	}
	if r.kind != kind {
		return errContent
	}
	return nil
}

// more makes sure that there is another record: it reads the next block if there is none in this
// one.
func (r *reader) more() error {
	switch {
	case r.records.Err != nil:
		return r.records.Err
	case len(r.records.Rest) > 0:
		return nil
	}
	r.at = r.next
	var head [headSize]byte
	if err := r.read(head[:]); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint32(head[1:]))
	if size == 0 || size > maxBlock {
		return errSum
	}
	if cap(r.buffer) < size+sumSize {
		r.buffer = make([]byte, size+sumSize)
	}
	block := r.buffer[:size+sumSize]
	if err := r.read(block); err != nil {
		return err
	}
	r.next += int64(headSize + len(block))
	r.sum = crc32.Update(crc32.Update(r.sum, castagnoli, head[:]), castagnoli, block[:size])
	if r.sum != binary.BigEndian.Uint32(block[size:]) {
		return errSum
	}
	r.sum = crc32.Update(r.sum, castagnoli, block[size:])
	r.kind, r.records.Rest = head[0], block[:size]
	return nil
}

func (r *reader) read(b []byte) error {
	_, err := io.ReadFull(r.r, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errCut
	}
	return err
}
