//go:build linux

package stream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
)

// several has each goroutine lock random names, all at once; if it nests, it also locks one while
// it holds another.
func (w *chaosWorker) several() int {
	mutex := func(name string) locker { return relukko.NewMutex(w.client, name, w.options()...) }
	return w.run(func(ctx context.Context, who int) {
		var names []string
		for _, i := range rand.Perm(len(w.Several))[:1+rand.IntN(4)] {
			names = append(names, w.Several[i])
		}
		switch {
		case len(names) == 1:
			w.hold(ctx, who, mutex(names[0]), nil)
		case w.Nests && rand.IntN(4) == 0: // mutexes need the same order everywhere
			first, second := mutex(min(names[0], names[1])), mutex(max(names[0], names[1]))
			w.hold(ctx, who, first, func(held context.Context) { w.hold(held, who, second, nil) })
		default:
			w.hold(ctx, who, relukko.NewMultiMutex(w.client, names, w.options()...), nil)
		}
	})
}

// TestMultiMutexInChaos has goroutines of several processes lock random ones of eight names: in
// peace, while processes are killed, connections cut, and locks deleted, and with some that hold
// one name while they wait for another. No two ever have one name, and nobody waits for long.
func TestMultiMutexInChaos(t *testing.T) {
	parallel(t)
	type kind struct {
		name          string
		faults, nests bool
	}
	kinds := []kind{{name: "in peace"}, {name: "with faults", faults: true}}
	if *full { // otherwise a reservation takes longer than all of the test
		kinds = append(kinds, kind{name: "nested", nests: true})
	}
	for _, store := range []struct {
		name    string
		url     func(t testing.TB) string
		servers int
	}{
		{"bbolt", boltStore, 1},
		{"PostgreSQL", postgres.Database, 2},
	} {
		for _, row := range kinds {
			t.Run(store.name+" "+row.name, func(t *testing.T) {
				parallel(t)
				url := store.url(t)
				var nodes []*node
				for range store.servers {
					nodes = append(nodes, serve(t, url))
				}
				names := strings.Fields("a b c d e f g h")
				work := workerConfig{Several: names, Count: 4, Nests: row.nests}
				r := newChaos(t, names, work, row.faults)
				r.run(newClient(t, nodes[0].url), nodes, scaled(6*time.Second, time.Minute))
				r.checkProgress()
			})
		}
	}
}

// checkProgress checks that nobody held a name that another held, that the goroutines never all
// waited, and that none of them waited for long.
func (r *chaos) checkProgress() {
	t := r.t
	overlaps, waits, all := r.overlaps(), r.waits(), r.entered()
	var silence time.Duration
	for i := range all[1:] {
		silence = max(silence, time.Duration(all[i+1].Entered-all[i].Entered))
	}
	longest := waits[len(waits)-1]
	last := all[len(all)-1].Entered
	shares := map[[2]int]int{}
	for _, n := range r.tenures {
		if n.Entered == 0 && n.Left == 0 { // it still waited in the end
			longest = max(longest, time.Duration(last-n.Began))
		}
		if n.Entered != 0 {
			shares[[2]int{n.process, n.Who}]++
		}
	}
	fmt.Printf("%s: %d sections, %d kills, %d cuts, %d deletions; %d overlaps after a deletion; "+
		"no grant for %v at most; waits: mean %v, 99%% %v, longest %v\n",
		t.Name(), len(waits), r.kills, r.cuts, r.deletions, overlaps,
		silence.Round(time.Millisecond), mean(waits).Round(time.Millisecond),
		waits[len(waits)*99/100].Round(time.Millisecond), longest.Round(time.Millisecond))
	most := time.Duration(0)
	if r.faults {
		most = chaosTTL + 2*time.Second // a kill costs the lease and the server's grace
	}
	if r.work.Nests {
		most = 20 * time.Second // a second reservation
	}
	require.Less(t, silence, most+2*time.Second)
	require.Less(t, longest, 2*most+10*time.Second)
	if !r.faults {
		require.Len(t, shares, chaosProcesses*r.work.Count)
	}
}

// TestMultiMutexLeavesWhatItWaitsFor: while one waits for a and b, and b is held, a is free for
// others after one reservation. One that holds one of them gets the other.
func TestMultiMutexLeavesWhatItWaitsFor(t *testing.T) {
	parallel(t)
	const reservation = 10 * time.Second
	for _, store := range scaled(stores[1:2], stores) {
		for _, held := range []string{"a", "b"} {
			for _, nested := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s is held, nested: %v", store.name, held, nested),
					func(t *testing.T) {
						t.Parallel()
						n := serve(t, store.url(t))
						free := map[string]string{"a": "b", "b": "a"}[held]
						holder := newClient(t, n.url)
						h := lockSoon(t, holder, held)
						h.wait(t)
						both := relukko.NewMultiMutex(newClient(t, n.url), []string{"a", "b"})
						acquired := make(chan error, 1)
						go func() { acquired <- lockOnce(t, both) }()
						await(t, "it waits", func() bool { return waitingCount(t, n.url) == 1 })
						third := holder
						if !nested {
							third = newClient(t, n.url)
						}
						began := time.Now()
						l := lockSoon(t, third, free)
						require.Less(t, l.wait(t).Sub(began), reservation+2*time.Second)
						select {
						case err := <-acquired:
							t.Fatal("it holds what another holds", err)
						default:
						}
						l.unlock(t)
						began = time.Now()
						h.unlock(t)
						require.NoError(t, <-acquired)
						require.Less(t, time.Since(began), 2*time.Second)
					})
			}
		}
	}
}

// lockOnce locks and unlocks.
func lockOnce(t *testing.T, l locker) error {
	held, err := l.Lock(t.Context())
	if err != nil {
		return err
	}
	return l.Unlock(held)
}
