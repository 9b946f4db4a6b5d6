//go:build linux

package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

const (
	chaosProcesses = 4
	chaosTTL       = 5 * time.Second
	chaosHold      = 40 * time.Millisecond // on average
)

// tenure is what a goroutine of a process prints when it begins to wait, when it enters and when it
// leaves. Instants are numbers of nanoseconds; those that have not come yet are 0.
type tenure struct {
	Who                  int // the goroutine
	Locks                []lockRef
	Began, Entered, Left int64
	Err                  string

	process int
	killed  bool
}

// lockRef is one lock of a name.
type lockRef struct {
	Name  string
	Token uint64
}

// locker is a Mutex, a Pool or a MultiMutex.
type locker interface {
	Lock(ctx context.Context) (context.Context, error)
	Unlock(held context.Context) error
}

// chaosWorker is a process of a chaos. Its goroutines lock and unlock again and again, and print
// their tenures, until its standard input ends.
type chaosWorker struct {
	*workerConfig
	client *api.Client

	mu  sync.Mutex
	out *json.Encoder
}

// run has each goroutine call next again and again.
func (w *chaosWorker) run(next func(ctx context.Context, who int)) int {
	ctx, end := context.WithCancel(context.Background())
	w.out = json.NewEncoder(os.Stdout)
	var all sync.WaitGroup
	for who := range w.Count {
		all.Go(func() {
			for ctx.Err() == nil {
				next(ctx, who)
			}
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	end()
	all.Wait()
	_ = w.client.Close()
	return 0
}

func (w *chaosWorker) options() []relukko.Option {
	return []relukko.Option{relukko.WithTTL(w.TTL), relukko.WithCreator(w.Creator)}
}

func (w *chaosWorker) say(t tenure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.out.Encode(t)
}

// hold locks, calls inside if it is not nil, stays for a moment and unlocks.
func (w *chaosWorker) hold(ctx context.Context, who int, l locker, inside func(context.Context)) {
	t := tenure{Who: who, Began: time.Now().UnixNano()}
	w.say(t)
	held, err := l.Lock(ctx)
	if err != nil {
		t.Left = time.Now().UnixNano()
		if ctx.Err() == nil {
			t.Err = err.Error()
		}
		w.say(t)
		return
	}
	s, _ := relukko.FromContext(held)
	for _, lock := range s.Locks() {
		t.Locks = append(t.Locks, lockRef{lock.Name, lock.FencingToken})
	}
	t.Entered = time.Now().UnixNano()
	w.say(t)
	if inside != nil {
		inside(held)
	}
	select {
	case <-time.After(chaosHold/2 + rand.N(chaosHold)):
	case <-held.Done():
	}
	t.Left = time.Now().UnixNano()
	w.say(t)
	_ = l.Unlock(held) // it may be lost
}

// chaos is what happens to processes that share locks.
type chaos struct {
	t       *testing.T
	names   []string
	work    workerConfig // of each process
	faults  bool         // processes are killed, connections cut and locks deleted
	deleted map[lockRef]bool

	kills, cuts, deletions int

	mu       sync.Mutex
	tenures  map[[3]int64]tenure // by process, goroutine and Began: as last printed
	troubles map[int][]int64     // when something happened to a process
}

func newChaos(t *testing.T, names []string, work workerConfig, faults bool) *chaos {
	return &chaos{t: t, names: names, work: work, faults: faults, deleted: map[lockRef]bool{},
		tenures: map[[3]int64]tenure{}, troubles: map[int][]int64{}}
}

// start starts a process with this number.
func (r *chaos) start(number int, url string) (*worker, *sync.WaitGroup) {
	config := r.work
	config.URL, config.TTL = url, chaosTTL
	config.Creator = fmt.Sprint("process-", number)
	w := startProcess(r.t, config)
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			var t tenure
			if w.stdout.Decode(&t) != nil {
				return
			}
			t.process = number
			r.mu.Lock()
			r.tenures[[3]int64{int64(number), int64(t.Who), t.Began}] = t
			r.mu.Unlock()
		}
	})
	return w, &reading
}

func (r *chaos) trouble(process int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.troubles[process] = append(r.troubles[process], time.Now().UnixNano())
}

// run has things happen for this time.
func (r *chaos) run(c *api.Client, nodes []*node, d time.Duration) {
	var workers [chaosProcesses]*worker
	var proxies [chaosProcesses]*faultnet.Proxy
	var numbers [chaosProcesses]int
	var readings []*sync.WaitGroup
	next := 0
	start := func(i int) {
		var reading *sync.WaitGroup
		r.trouble(next)
		workers[i], reading = r.start(next, "http://"+proxies[i].Addr())
		readings = append(readings, reading)
		numbers[i] = next
		next++
	}
	for i := range workers {
		proxies[i] = nodes[i%len(nodes)].proxy()
		start(i)
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		pause(300*time.Millisecond + rand.N(700*time.Millisecond))
		if !r.faults {
			continue
		}
		i := rand.IntN(chaosProcesses)
		switch rand.IntN(4) {
		case 0:
			r.kills++
			r.trouble(numbers[i])
			workers[i].kill()
			r.killed(numbers[i])
			start(i)
		case 1:
			r.cuts++
			r.trouble(numbers[i])
			proxies[i].Cut()
		default:
			r.deleteOne(c)
		}
	}
	for _, w := range workers {
		w.stdin.Close()
	}
	for _, reading := range readings {
		reading.Wait()
	}
}

// deleteOne deletes the lock of one of the names, if somebody holds it.
func (r *chaos) deleteOne(c *api.Client) {
	ctx := r.t.Context()
	lock, err := c.Find(ctx, r.names[rand.IntN(len(r.names))])
	if err != nil {
		return
	}
	r.deleted[lockRef{lock.Name, lock.FencingToken}] = true
	if _, err = c.Delete(ctx, lock.ID); err == nil {
		r.deletions++
	}
}

// killed ends the tenures of a process that was killed.
func (r *chaos) killed(process int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now().UnixNano()
	for key, t := range r.tenures {
		if t.process == process && t.Left == 0 {
			t.Left, t.killed = now, true
			r.tenures[key] = t
		}
	}
}

// entered returns the tenures that have begun, in their order.
func (r *chaos) entered() (all []tenure) {
	for _, t := range r.tenures {
		require.Empty(r.t, t.Err)
		if t.Entered != 0 {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b tenure) int { return cmp.Compare(a.Entered, b.Entered) })
	return all
}

// overlaps requires that no two held a lock of one name at a time, and returns how often they did
// after a deletion by hand.
func (r *chaos) overlaps() (n int) {
	type use struct {
		tenure
		lockRef
	}
	t, byName := r.t, map[string][]use{}
	for _, one := range r.entered() {
		for _, lock := range one.Locks {
			byName[lock.Name] = append(byName[lock.Name], use{one, lock})
		}
	}
	if r.kills == 0 { // else a lease of the dead may keep a name until the end
		require.Len(t, byName, len(r.names))
	}
	for name, all := range byName {
		slices.SortFunc(all, func(a, b use) int { return cmp.Compare(a.Token, b.Token) })
		for i := range all[1:] {
			a, b := all[i], all[i+1]
			require.NotEqual(t, a.Token, b.Token, name)
			if over := time.Duration(a.Left - b.Entered); over > 0 {
				require.True(t, r.deleted[a.lockRef] || a.killed && over < 100*time.Millisecond,
					"%s is held by two for %v", name, over)
				require.Less(t, over, time.Second)
				n++
			}
		}
	}
	return n
}

// waits returns how long the goroutines have waited, the shortest first.
func (r *chaos) waits() (all []time.Duration) {
	for _, t := range r.entered() {
		all = append(all, time.Duration(t.Entered-t.Began))
	}
	slices.Sort(all)
	return all
}

func mean(all []time.Duration) (sum time.Duration) {
	for _, d := range all {
		sum += d
	}
	return sum / time.Duration(len(all))
}
