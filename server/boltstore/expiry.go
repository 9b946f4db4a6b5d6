package boltstore

import "container/heap"

// item is a lock in the working state. Its record is replaced when the lock changes.
type item struct {
	*record
	pos     int // in the expiry heap
	markPos int // among those with the same mark
}

// expiry has the lock that expires first in front. Each item knows its place, so changing and removing one costs
// O(log n), and a sweep looks at what is due and one more.
type expiry []*item

func (x *expiry) push(i *item)   { heap.Push((*expiryOrder)(x), i) }
func (x *expiry) fix(i *item)    { heap.Fix((*expiryOrder)(x), i.pos) }
func (x *expiry) remove(i *item) { heap.Remove((*expiryOrder)(x), i.pos) }

// expiryOrder is what package heap needs to know.
type expiryOrder []*item

func (x expiryOrder) Len() int           { return len(x) }
func (x expiryOrder) Less(i, j int) bool { return x[i].ExpiresAt.Before(x[j].ExpiresAt) }
func (x expiryOrder) Swap(i, j int) {
	x[i], x[j] = x[j], x[i]
	x[i].pos, x[j].pos = i, j
}

func (x *expiryOrder) Push(v any) {
	i := v.(*item)
	i.pos = len(*x)
	*x = append(*x, i)
}

func (x *expiryOrder) Pop() any {
	old := *x
	last := len(old) - 1
	i := old[last]
	old[last] = nil
	*x = old[:last]
	return i
}
