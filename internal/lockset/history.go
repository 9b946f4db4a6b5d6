package lockset

import (
	"iter"
	"slices"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

// blockLen is the number of entries of a block.
const blockLen = 256

// A History keeps what has ended in memory. It is the Journal of a store that has no other. The
// zero History keeps nothing.
type History struct {
	limits store.HistoryLimits
	blocks [][]store.Ended // the oldest first; all but the last are full
	gone   int             // entries of the first block that do not count any more
	len    int
}

// Keep sets what is kept. Entries that are too many go as others come, two for each.
func (h *History) Keep(limits store.HistoryLimits) { h.limits = limits }

// PutLock implements Journal.
func (h *History) PutLock(*Record) {}

// PutMark implements Journal.
func (h *History) PutMark(*Mark) {}

// DropMark implements Journal.
func (h *History) DropMark(*Mark) {}

// DropLock implements Journal.
func (h *History) DropLock(_ *Record, end store.Ended) {
	if h.limits.None() {
		return
	}
	last := len(h.blocks) - 1
	if last < 0 || len(h.blocks[last]) == blockLen {
		h.blocks = append(h.blocks, make([]store.Ended, 0, blockLen))
		last++
	}
	h.blocks[last] = append(h.blocks[last], end)
	h.len++
	for range 2 {
		h.forget(end.At.Add(-h.limits.Age))
	}
}

// forget drops the oldest entry if it is one too many, or older than that.
func (h *History) forget(oldest time.Time) {
	if h.len <= h.limits.Max && !h.blocks[0][h.gone].At.Before(oldest) {
		return
	}
	h.len--
	if h.gone++; h.gone == blockLen {
		h.blocks, h.gone = h.blocks[1:], 0
	}
}

// At returns the history as it is at the store's now. It does not change when h does.
func (h *History) At(now time.Time) *Past {
	if h.limits.None() {
		return new(Past)
	}
	return &Past{slices.Clone(h.blocks), h.gone, now.Add(-h.limits.Age)}
}

// Past is a History at one instant.
type Past struct {
	blocks [][]store.Ended
	gone   int
	oldest time.Time // of what counts
}

// Find returns the entries that q selects, the newest first.
func (p *Past) Find(q store.HistoryQuery) []store.Ended {
	found := []store.Ended{}
	for i, block := range slices.Backward(p.blocks) {
		if i == 0 {
			block = block[p.gone:]
		}
		if len(block) > 0 && !q.Until.IsZero() && block[0].At.After(q.Until) {
			continue
		}
		for j := range slices.Backward(block) {
			e := &block[j]
			if len(found) == q.Limit || e.At.Before(q.Since) || e.At.Before(p.oldest) {
				return found
			}
			if (q.Name == "" || e.Name == q.Name) && (q.Until.IsZero() || !e.At.After(q.Until)) {
				found = append(found, *e)
			}
		}
	}
	return found
}

// All yields the entries, the oldest first.
func (p *Past) All() iter.Seq2[store.Ended, error] {
	return func(yield func(store.Ended, error) bool) {
		for i, block := range p.blocks {
			if i == 0 {
				block = block[p.gone:]
			}
			for _, e := range block {
				if !e.At.Before(p.oldest) && !yield(e, nil) {
					return
				}
			}
		}
	}
}
