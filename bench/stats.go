package main

import (
	"cmp"
	"math/bits"
	"slices"
	"time"
)

// quantile returns the value below which the share q of the values lies; zero
// where there are none.
func quantile[T cmp.Ordered](values []T, q float64) T {
	if len(values) == 0 {
		var none T
		return none
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// median returns the middle value; of an even number of values, the mean of two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// waits counts durations, each in a bucket of its size: exactly up to fineWaits ns, then fineWaits
// buckets for each power of two.
type waits struct {
	counts [64 * fineWaits]int32
	n      int64
}

const fineWaits = 32

func (w *waits) add(d time.Duration) {
	w.counts[bucketOf(d)]++
	w.n++
}

func (w *waits) merge(other *waits) {
	for i, n := range other.counts {
		w.counts[i] += n
	}
	w.n += other.n
}

// quantile returns the least duration of the bucket that the share q of the durations lies below.
func (w *waits) quantile(q float64) time.Duration {
	left := int64(q * float64(w.n))
	for i, n := range w.counts {
		if left -= int64(n); left < 0 {
			return leastOf(i)
		}
	}
	return 0
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(0, bits.Len64(v/fineWaits)-1)
	return shift*fineWaits + int(v>>shift)
}

func leastOf(bucket int) time.Duration {
	shift := max(0, bucket/fineWaits-1)
	return time.Duration(bucket-shift*fineWaits) << shift
}
