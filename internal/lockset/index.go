package lockset

// An Index finds values by a key that several of them may share. Adding and removing cost O(1).
// The zero Index is empty.
type Index[K comparable, V Indexed] struct{ values map[K][]V }

// Indexed is a value that keeps its position in an Index.
type Indexed interface {
	comparable
	IndexPos() *int
}

// Add adds v under the key k.
func (x *Index[K, V]) Add(k K, v V) {
	if x.values == nil {
		x.values = make(map[K][]V)
	}
	*v.IndexPos() = len(x.values[k])
	x.values[k] = append(x.values[k], v)
}

// Remove removes v, which was added under the key k.
func (x *Index[K, V]) Remove(k K, v V) {
	same := x.values[k]
	last := len(same) - 1
	pos := *v.IndexPos()
	same[pos] = same[last]
	*same[pos].IndexPos() = pos
	clear(same[last:])
	if last == 0 {
		delete(x.values, k)
	} else {
		x.values[k] = same[:last]
	}
}

// All returns the values under the key k. The next Add or Remove may change the slice.
func (x *Index[K, V]) All(k K) []V { return x.values[k] }

// Len returns the number of keys.
func (x *Index[K, V]) Len() int { return len(x.values) }
