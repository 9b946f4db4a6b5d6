package server

import "container/heap"

// expiryHeap has the entry that expires first in front. Each entry knows its place, so that changing and removing
// one costs O(log n).
type expiryHeap []*entry

func (h *expiryHeap) push(e *entry)   { heap.Push((*heapOrder)(h), e) }
func (h *expiryHeap) fix(e *entry)    { heap.Fix((*heapOrder)(h), e.pos) }
func (h *expiryHeap) remove(e *entry) { heap.Remove((*heapOrder)(h), e.pos) }

// heapOrder is what package heap needs to know.
type heapOrder []*entry

func (h heapOrder) Len() int           { return len(h) }
func (h heapOrder) Less(i, j int) bool { return h[i].ExpiresAt.Before(h[j].ExpiresAt) }
func (h heapOrder) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *heapOrder) Push(x any) {
	e := x.(*entry)
	e.pos = len(*h)
	*h = append(*h, e)
}

func (h *heapOrder) Pop() any {
	old := *h
	last := len(old) - 1
	e := old[last]
	old[last] = nil
	*h = old[:last]
	return e
}
