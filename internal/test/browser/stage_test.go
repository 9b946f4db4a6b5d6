package browser

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// A past is a store whose locks are older than they are, and which has a history from before.
type past struct {
	*memstore.Store

	mu      sync.Mutex
	ages    map[string]age // by name
	history []store.Ended  // the newest first
}

// age is how long ago a lock was created and last changed. One that is renewed keeps its change.
type age struct{ created, updated time.Duration }

func newPast() *past { return &past{Store: memstore.New(), ages: map[string]age{}} }

// was makes the next lock with that name older.
func (p *past) was(name string, created, updated time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ages[name] = age{created, updated}
}

func (p *past) old(l store.Lock) store.Lock {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.CreatedAt = l.CreatedAt.Add(-p.ages[l.Name].created)
	l.UpdatedAt = l.UpdatedAt.Add(-p.ages[l.Name].updated)
	return l
}

func (p *past) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	l, err := p.Store.Create(ctx, in)
	return p.old(l), err
}

func (p *past) Update(ctx context.Context, id string, c store.Change) (store.Lock, error) {
	l, err := p.Store.Update(ctx, id, c)
	return p.old(l), err
}

func (p *past) Get(ctx context.Context, id string) (store.Lock, error) {
	l, err := p.Store.Get(ctx, id)
	return p.old(l), err
}

func (p *past) Holder(ctx context.Context, name string) (store.Lock, error) {
	l, err := p.Store.Holder(ctx, name)
	return p.old(l), err
}

func (p *past) List(ctx context.Context) ([]store.Lock, error) {
	all, err := p.Store.List(ctx)
	for i := range all {
		all[i] = p.old(all[i])
	}
	return all, err
}

func (p *past) History(ctx context.Context, q store.HistoryQuery) ([]store.Ended, error) {
	all, err := p.Store.History(ctx, q)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.history {
		if (q.Name == "" || q.Name == e.Name) && len(all) < q.Limit {
			all = append(all, e)
		}
	}
	return all, err
}

// remember makes up the tenures of a name in the last 30 days, the same ones each time.
func (p *past) remember(name string) {
	random := rand.New(rand.NewPCG(30, 7))
	people := []string{"ada@bench-7/16", "grace@lab-2/221", "runner-3@ci/48", "lin@bench-2/77"}
	at := time.Now().Add(-2 * time.Hour)
	for at.After(time.Now().AddDate(0, 0, -31)) {
		holder := people[random.IntN(len(people))]
		held := time.Duration(5+random.IntN(180)) * time.Minute
		e := store.Ended{
			Lock: store.Lock{
				ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", len(p.history)), Name: name,
				Creator: &holder, CreatedAt: at.Add(-held), UpdatedAt: at, ExpiresAt: at,
				FencingToken: 1, Owner: "ada",
			},
			Ending: store.Ending{By: "ada"},
			At:     at,
			Waited: time.Duration(random.IntN(90)*random.IntN(20)) * time.Second,
		}
		switch random.IntN(14) {
		case 0:
			e.Ending = store.Ending{How: store.Broken, By: "boss", Reason: "the bench is rebooted"}
		case 1:
			e.Ending = store.Ending{How: store.Expired}
		}
		p.history = append(p.history, e)
		at = at.Add(-held - time.Duration(random.IntN(240))*time.Minute)
		if at.Weekday() == time.Sunday {
			at = at.Add(-24 * time.Hour)
		}
	}
}

// stage is a laboratory on a normal morning. It returns when the backend has all of it.
func stage(t *testing.T, options ...server.Option) *site {
	t.Helper()
	p := newPast()
	p.remember("robot-arm-1")
	s := serveOn(t, p, append([]server.Option{server.WithGrace(24 * time.Hour)}, options...)...)
	ada, grace := s.client(adaKey), s.client(graceKey)
	const ci = "https://gitlab.example.com/lab/arm/-/jobs/"
	for _, h := range []struct {
		client        *api.Client
		name, creator string
		since         time.Duration
	}{
		{ada, "robot-arm-1", "ada@bench-7/16941 (firmware 4.2, release candidate)",
			42 * time.Minute},
		{grace, "robot-arm-2", "runner-3@ci-host/4411 (" + ci + "88123)", 3 * time.Minute},
		{grace, "bench-1", "lin@bench-1/902", 5*time.Hour + 12*time.Minute},
		{ada, "licence/1", "ada@lab-2/77 (simulation of the gripper)", 26 * time.Hour},
		{grace, "licence/2", "grace@lab-3/8123 (nightly)", 8 * time.Minute},
		{grace, "staging", "runner-1@ci-host/310 (" + ci + "88131)", 40 * time.Second},
	} {
		p.was(h.name, h.since, 0)
		s.hold(h.client, h.name, h.creator)
	}
	for _, l := range []struct {
		key, name, creator string
		created, updated   time.Duration
		left               time.Duration
	}{
		{graceKey, "bench-2", "grace (calibration, back on Friday)", 20 * time.Hour, 20 * time.Hour,
			29 * time.Hour},
		{adaKey, "camera-4", "ada (borrowed for the fair)", 3 * time.Hour, 3 * time.Hour,
			2*time.Hour + 20*time.Minute},
		{graceKey, "dongle-7", "pyrelukko on lab-5", 25 * time.Minute, 12 * time.Minute,
			-2 * time.Minute},
		{graceKey, "soak-bench", "soak@lab-9/12 (endurance run)", 31 * time.Hour, 6 * time.Minute,
			3 * time.Minute},
	} {
		p.was(l.name, l.created, l.updated)
		s.lock(l.key, l.name, l.creator, l.left)
	}
	p.was("bench-10", 50*time.Hour, 50*time.Hour)
	forever := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	out := s.lock(adaKey, "bench-10", "ada (the arm is loose, ask Ada)", time.Hour)
	_, err := ada.Update(t.Context(), out.ID, api.Update{ExpiresAt: &forever})
	require.NoError(t, err)

	s.wait(grace, "robot-arm-1", "grace@lab-2/552", relukko.WithPriority(3))
	s.wait(ada, "robot-arm-1", "lin@bench-2/811 (nightly)")
	s.wait(ada, "staging", "runner-2@ci-host/99")
	return s
}

// wait has a program wait for a lock until the test ends. It returns when the backend knows of it.
func (s *site) wait(client *api.Client, name, creator string, options ...relukko.Option) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	queued := make(chan struct{})
	var once sync.Once
	options = append(slices.Clone(options), relukko.WithCreator(creator),
		relukko.WithOnWait(func(relukko.Waiting) { once.Do(func() { close(queued) }) }))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m := relukko.NewMutex(client, name, options...)
		if held, err := m.Lock(ctx); err == nil {
			<-ctx.Done()
			_ = m.Unlock(held)
		}
	}()
	<-queued
	s.t.Cleanup(func() {
		cancel()
		<-ended
	})
}
