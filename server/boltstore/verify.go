package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// bbolt trusts its file: a wrong page number makes it fault, loop or use a page twice. So Open
// first walks the whole tree by itself. The content of the pages is checked afterwards, by the
// checksums of the values and the summary.

// order is the byte order of the file: that of the machine that wrote it.
var order = binary.NativeEndian

const (
	pageHeader = 16 // id uint64, flags uint16, count uint16, overflow uint32
	// Branch: pos, ksize uint32, page uint64; leaf: flags, pos, ksize, vsize uint32.
	elementSize  = 16
	bucketHeader = 16 // page uint64 (0: the only page follows inline), sequence uint64
	maxDepth     = 64 // of a tree: far more than fits into any disk

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10

	isBucket     = 0x01               // flag of a leaf element
	noFreelist   = 0xffffffffffffffff // the free pages are not on disk
	longFreelist = 0xffff             // the count is in the first element
)

// walker visits every page of a bbolt file that is in use.
type walker struct {
	file     io.ReaderAt
	pageSize uint64
	pages    uint64          // all have lower numbers
	seen     map[uint64]bool // pages in use
}

// verify returns an error unless the tree of the transaction txid is whole: every page is in the
// file, of the right kind, used once and not free; keys are in order and inside their pages.
func verify(file io.ReaderAt, size int64, pageSize int, txid uint64) error {
	meta := make([]byte, pageHeader+64)
	if _, err := file.ReadAt(meta, int64(txid%2)*int64(pageSize)); err != nil {
		return err
	}
	meta = meta[pageHeader:]
	root, freelist, pages := order.Uint64(meta[16:]), order.Uint64(meta[32:]), order.Uint64(
		meta[40:])
	w := &walker{file, uint64(pageSize), pages, make(map[uint64]bool)}
	if pages > uint64(size)/w.pageSize {
		return fmt.Errorf("the file is cut short: it has %d bytes, not %d pages of %d bytes",
			size, pages, pageSize)
	}
	if err := w.tree(root, nil, nil, 0); err != nil {
		return err
	}
	if freelist == noFreelist {
		return nil
	}
	return w.freelist(freelist)
}

// page returns the page with that number and its overflow pages.
func (w *walker) page(id uint64) (page []byte, flags uint16, count int, err error) {
	if id < 2 || id >= w.pages {
		return nil, 0, 0, fmt.Errorf("page %d does not exist", id)
	}
	header := make([]byte, pageHeader)
	if _, err := w.file.ReadAt(header, int64(id*w.pageSize)); err != nil {
		return nil, 0, 0, err
	}
	overflow := uint64(order.Uint32(header[12:]))
	if got := order.Uint64(header); got != id || overflow >= w.pages-id {
		return nil, 0, 0, fmt.Errorf("page %d is not itself", id)
	}
	for i := id; i <= id+overflow; i++ {
		if w.seen[i] {
			return nil, 0, 0, fmt.Errorf("page %d is used twice", i)
		}
		w.seen[i] = true
	}
	page = make([]byte, (overflow+1)*w.pageSize)
	if _, err := w.file.ReadAt(page, int64(id*w.pageSize)); err != nil {
		return nil, 0, 0, err
	}
	return page, order.Uint16(page[8:]), int(order.Uint16(page[10:])), nil
}

// tree walks the pages from id on. Their keys are at least low and, unless high is nil, below high.
func (w *walker) tree(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d lies too deep", id)
	}
	page, flags, count, err := w.page(id)
	if err != nil {
		return err
	}
	switch flags {
	case flagLeaf:
		return w.leaf(id, page, count, low, high, depth)
	case flagBranch:
	default:
		return fmt.Errorf("page %d is of a wrong kind (%#x)", id, flags)
	}
	if count == 0 {
		return fmt.Errorf("page %d is empty", id)
	}
	keys, children := make([][]byte, count), make([]uint64, count)
	for i := range count {
		e, at := element(page, i)
		if e == nil {
			return fmt.Errorf("page %d is too small for its elements", id)
		}
		children[i] = order.Uint64(e[8:])
		keys[i] = piece(page, at+uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])))
		if keys[i] == nil {
			return fmt.Errorf("page %d has a key outside of it", id)
		}
	}
	if err := inOrder(id, keys, low, high); err != nil {
		return err
	}
	for i := range count {
		next := high
		if i+1 < count {
			next = keys[i+1]
		}
		if err := w.tree(children[i], keys[i], next, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks one page of keys and values, and walks the buckets in it.
func (w *walker) leaf(id uint64, page []byte, count int, low, high []byte, depth int) error {
	keys := make([][]byte, count)
	end := uint64(0)
	for i := range count {
		e, at := element(page, i)
		if e == nil {
			return fmt.Errorf("page %d is too small for its elements", id)
		}
		flags, from := order.Uint32(e), at+uint64(order.Uint32(e[4:]))
		ksize, vsize := uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		keys[i] = piece(page, from, ksize)
		value := piece(page, from+ksize, vsize)
		if keys[i] == nil || value == nil {
			return fmt.Errorf("page %d has a key or value outside of it", id)
		}
		end = max(end, from+ksize+vsize)
		switch {
		case flags == 0:
			continue
		case flags != isBucket || len(value) < bucketHeader:
			return fmt.Errorf("page %d has an element of a wrong kind", id)
		}
		if err := w.bucket(id, value, depth); err != nil {
			return err
		}
	}
	if size := uint64(len(page)); size > w.pageSize && size-end > w.pageSize {
		return fmt.Errorf("page %d is longer than its values", id)
	}
	return inOrder(id, keys, low, high)
}

// bucket walks a bucket whose value is on page id.
func (w *walker) bucket(id uint64, value []byte, depth int) error {
	if root := order.Uint64(value); root != 0 {
		return w.tree(root, nil, nil, depth+1)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || order.Uint16(inline[8:]) != flagLeaf || depth > maxDepth {
		return fmt.Errorf("page %d has a bucket of a wrong kind", id)
	}
	return w.leaf(id, inline, int(order.Uint16(inline[10:])), nil, nil, depth+1)
}

// freelist checks that no page is both free and in use, or free twice.
func (w *walker) freelist(id uint64) error {
	page, flags, short, err := w.page(id)
	if err != nil {
		return err
	}
	count, at := uint64(short), uint64(pageHeader)
	if short == longFreelist {
		count, at = order.Uint64(page[at:]), at+8
	}
	if flags != flagFreelist || count > (uint64(len(page))-at)/8 {
		return fmt.Errorf("page %d is no list of free pages", id)
	}
	for i := range count {
		free := order.Uint64(page[at+8*i:])
		if free < 2 || free >= w.pages || w.seen[free] {
			return fmt.Errorf("page %d is listed as free, but is not", free)
		}
		w.seen[free] = true
	}
	return nil
}

// element returns the head of the i-th element of a page and its position; nil when that is not
// inside the page.
func element(page []byte, i int) (head []byte, at uint64) {
	at = pageHeader + uint64(i)*elementSize
	return piece(page, at, elementSize), at
}

// piece returns size bytes of a page; nil when they are not all inside.
func piece(page []byte, from, size uint64) []byte {
	if from > uint64(len(page)) || size > uint64(len(page))-from {
		return nil
	}
	return page[from : from+size]
}

func inOrder(id uint64, keys [][]byte, low, high []byte) error {
	for i, key := range keys {
		if i > 0 && bytes.Compare(keys[i-1], key) >= 0 ||
			bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return fmt.Errorf("page %d has keys out of order", id)
		}
	}
	return nil
}
