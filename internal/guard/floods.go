package guard

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

const (
	floodWindow = time.Minute
	floodLimit  = 20   // wrong keys from an address in a floodWindow; more are slowed down
	floodSlots  = 4096 // addresses share one if there are more
	floodLines  = time.Second
)

// floods counts requests with wrong keys, by address. Its size does not depend on how many there
// are: addresses with the same hash share a slot, which costs nobody who has a right key.
type floods struct {
	mu    sync.Mutex
	seed  maphash.Seed
	slots []slot // made with the first wrong key

	total   uint64    // of the server
	written time.Time // when a line was last written
	omitted uint64    // requests since then
}

type slot struct {
	since time.Time // the beginning of its window
	n     int       // wrong keys in it
}

// wrong is what is to be done about a wrong key.
type wrong struct {
	retry          time.Duration // until the address is heard again; 0: it is heard
	write          bool          // a line, which stands for those that were omitted too
	total, omitted uint64
}

// add counts a wrong key from an address.
func (f *floods) add(address string) (w wrong) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.slots == nil {
		f.seed, f.slots = maphash.MakeSeed(), make([]slot, floodSlots)
	}
	now := time.Now()
	s := &f.slots[maphash.String(f.seed, network(address))%floodSlots]
	if now.Sub(s.since) >= floodWindow {
		*s = slot{since: now}
	}
	s.n = min(s.n+1, floodLimit+1)
	if s.n > floodLimit {
		w.retry = s.since.Add(floodWindow).Sub(now)
	}
	f.total++
	if w.write = now.Sub(f.written) >= floodLines; w.write {
		w.omitted, f.omitted, f.written = f.omitted, 0, now
	} else {
		f.omitted++
	}
	w.total = f.total
	return w
}

// retry returns for how long the address is not heard; 0: it is.
func (f *floods) retry(address string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.slots == nil {
		return 0
	}
	s := &f.slots[maphash.String(f.seed, network(address))%floodSlots]
	if s.n < floodLimit {
		return 0
	}
	return max(time.Until(s.since.Add(floodWindow)), 0)
}

// network returns what counts as one address: of IPv6, where a machine has many, the first 64 bits.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || !ip.Unmap().Is6() {
		return address
	}
	prefix, _ := ip.Prefix(64) // IPv6 has more bits
	return prefix.String()
}
