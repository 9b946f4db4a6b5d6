//go:build linux

package soak

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

const (
	workers   = 6
	databases = 3 // servers over one PostgreSQL
	minRounds = 3
	maxRound  = time.Minute
	timeToEnd = 2 * patience // for a worker: its client may look for a lost lock for 75 s
	longGrace = 2 * time.Second
	forever   = instant(math.MaxInt64 / 2)
)

var lockNames = []string{"arm", "dongle", "slot", "stage"}

// soak is one run on one store.
type soak struct {
	t       *testing.T
	dir     string // journals and logs
	program string
	nodes   []*node
	stores  []*faultnet.Proxy // from each node to its database; none on bbolt
	crew    []*post
	client  *api.Client // of the test's own; no fault happens to its way

	mu       sync.Mutex
	verdict  verdict
	evidence evidence
	configs  []workerConfig  // of all workers that ever were
	dead     map[string]bool // the workers that were killed
}

func TestSoak(t *testing.T) {
	d := *length
	if testing.Short() {
		d /= 3
	}
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < d+timeToEnd {
		t.Fatalf("%v of faults, and time to end, are more than go test allows for: "+
			"give it -timeout %v",
			d, d+2*timeToEnd)
	}
	program := filepath.Join(t.TempDir(), "relukko")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program,
		"gitlab.com/relukko/relukko-go/cmd/relukko").CombinedOutput()
	require.NoError(t, err, "%s", out)

	t.Run("bbolt", func(t *testing.T) {
		t.Parallel()
		s := newSoak(t, program)
		s.addNode("bolt:" + filepath.Join(s.dir, "locks.db"))
		s.run(d, func() {})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		database, socket := postgres.Database(t), postgres.Socket()
		s := newSoak(t, program)
		for range databases {
			s.addNode(s.detour(database, socket))
		}
		s.run(d, func() {
			postgres.Kill(t)
			postgres.Start(t)
		})
	})
}

func newSoak(t *testing.T, program string) *soak {
	s := &soak{
		t:        t,
		dir:      t.ArtifactDir(),
		program:  program,
		evidence: evidence{standstills: map[string][]span{}, byHand: map[string]span{}},
		dead:     map[string]bool{},
	}
	require.NoError(t, os.Mkdir(filepath.Join(s.dir, "registers"), 0o700))
	return s
}

func (s *soak) way(network, address string, target func() (string, string)) *faultnet.Proxy {
	w, err := faultnet.OpenProxy(network, address, target)
	require.NoError(s.t, err)
	s.t.Cleanup(w.Close)
	return w
}

// anyNode is where a connection goes: as behind a load balancer, to any of the
// servers that run.
func (s *soak) anyNode() (network, address string) {
	for _, i := range rand.Perm(len(s.nodes)) {
		if address := s.nodes[i].address(); address != "" {
			return "tcp", address
		}
	}
	return "", ""
}

// detour answers the URL of a database by a way that can go dark.
func (s *soak) detour(database, socket string) string {
	// Not t.TempDir, whose long names are too long for a socket.
	dir, err := os.MkdirTemp("", "soak")
	require.NoError(s.t, err)
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	w := s.way("unix", filepath.Join(dir, filepath.Base(socket)),
		func() (string, string) { return "unix", socket })
	s.stores = append(s.stores, w)
	u, err := url.Parse(database)
	require.NoError(s.t, err)
	query := u.Query()
	query.Set("host", dir)
	u.RawQuery = query.Encode()
	return u.String()
}

func (s *soak) addNode(store string) {
	n := &node{name: fmt.Sprint("server-", len(s.nodes)+1), program: s.program, store: store,
		dir: s.dir}
	s.t.Cleanup(n.kill)
	s.nodes = append(s.nodes, n)
}

// run has faults happen for d, while workers work, and judges. A round has one
// grace; between two of them everything is started again, and between does what
// is to be done beside.
func (s *soak) run(d time.Duration, between func()) {
	t := s.t
	for _, n := range s.nodes {
		require.NoError(t, n.up(0))
	}
	var err error
	s.client, err = api.New("http://"+s.way("tcp", "127.0.0.1:0", s.anyNode).Addr(), apiKey)
	require.NoError(t, err)
	t.Cleanup(func() { s.client.Shutdown(context.Background()) })
	for i := range workers {
		p := newPost(s, i)
		t.Cleanup(p.end)
		require.NoError(t, p.start())
		s.crew = append(s.crew, p)
	}
	rounds := max(minRounds, int(d/maxRound))
	janitor, stop := context.WithCancel(t.Context())
	var cleaning sync.WaitGroup
	cleaning.Go(func() { s.clean(janitor) })
	defer cleaning.Wait()
	defer stop()
	for i := range rounds {
		grace := time.Duration(0)
		if i%3 == 1 {
			grace = longGrace
		}
		if i > 0 {
			between()
			var g errgroup.Group
			for _, n := range s.nodes {
				g.Go(func() error {
					if err := n.end(); err != nil {
						return err
					}
					return n.start(grace)
				})
			}
			require.NoError(t, g.Wait())
		}
		ctx, cancel := context.WithTimeout(t.Context(), d/time.Duration(rounds))
		err = s.chaos(ctx, grace)
		cancel()
		require.NoError(t, err)
	}
	began := now()
	s.finish()
	s.judge()
	t.Logf("soak on %s, %v: %v; %v until all was done and gone", filepath.Base(t.Name()), d,
		&s.verdict, time.Duration(now()-began).Round(time.Second/10))
	for _, fault := range s.verdict.faults {
		t.Error(fault)
	}
	require.Positive(t, s.verdict.sections, "no progress was made")
}

// finish has the workers end and looks at what they leave.
func (s *soak) finish() {
	var ending sync.WaitGroup
	for _, p := range s.crew {
		p.stdin.Close()
		ending.Go(func() {
			if err := p.proc.await(timeToEnd); err != nil {
				s.fault("worker %s, asked to end: %v\n%s", p.config.Name, err, tail(p.log()))
			}
		})
	}
	ending.Wait()
	locks, err := s.list()
	if err != nil {
		s.fault("when all workers have ended: %v", err)
		return
	}
	for _, lock := range locks {
		if !s.isDead(lock) && lock.ExpiresAt.After(time.Now()) {
			s.fault("its holder's client is closed, but lock %s (%s) of %q is there until %v",
				lock.Name, lock.ID, lock.Creator, lock.ExpiresAt)
		}
	}
	for _, p := range s.crew {
		p.way.Close() // connections that were killed in the dark end only now
	}
	for deadline := time.Now().Add(patience); len(locks) > 0 && err == nil; {
		if time.Now().After(deadline) {
			s.fault("%v after all workers have ended there still are %+v", patience, locks)
			break
		}
		pause(s.t.Context(), 100*time.Millisecond)
		locks, err = s.list()
	}
	for _, n := range s.nodes {
		ending.Go(func() {
			if err := n.end(); err != nil {
				s.fault("%v\n%s", err, tail(filepath.Join(s.dir, n.name+".log")))
			}
		})
	}
	ending.Wait()
}

// list asks until the backend answers.
func (s *soak) list() ([]api.Lock, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	return s.client.List(ctx)
}

// judge reads what all the workers have written.
func (s *soak) judge() {
	v := &s.verdict
	byLock := map[string][]*stay{}
	for _, c := range s.configs {
		l, err := readJournal(c.Journal, c)
		require.NoError(s.t, err)
		v.sections += l.released
		v.losses += l.losses
		v.faults = append(v.faults, l.faults...)
		s.evidence.standstills[c.Name] = append(s.evidence.standstills[c.Name], l.stalls...)
		if !l.ended && !s.dead[c.Name] {
			v.fault("worker %s has not come to its end", c.Name)
		}
		for _, stay := range l.stays {
			byLock[stay.lock] = append(byLock[stay.lock], stay)
		}
	}
	for _, lock := range lockNames {
		v.stays(byLock[lock], &s.evidence)
		entries, err := register{filepath.Join(s.dir, "registers")}.entries(lock)
		require.NoError(s.t, err)
		v.writes(lock, entries)
	}
}

func (s *soak) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verdict.fault(format, args...)
}

// count adds one to a number of the verdict.
func (s *soak) count(n *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
}

// isDead reports whether the lock is one of a worker that was killed.
func (s *soak) isDead(lock api.Lock) bool {
	name, _, _ := strings.Cut(lock.Creator, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead[name]
}

// tail is the end of a log.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8000):])
}

// chaos has faults happen until ctx ends, and takes them all back.
func (s *soak) chaos(ctx context.Context, grace time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range s.crew {
		g.Go(func() error { return s.hauntWorker(ctx, p) })
		g.Go(func() error {
			return s.hauntWay(ctx, p.way, p.ttl(), func() { s.awaitHolder(ctx, p) })
		})
	}
	for _, n := range s.nodes {
		g.Go(func() error { return s.hauntNode(ctx, n, grace) })
	}
	for _, w := range s.stores {
		g.Go(func() error { return s.hauntWay(ctx, w, ttlMin, func() {}) })
	}
	g.Go(func() error { return s.deleteByHand(ctx) })
	return g.Wait()
}
