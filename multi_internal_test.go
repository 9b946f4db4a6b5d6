package relukko

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// apartDriver grants a lock for each name. It does not grant all together.
type apartDriver struct {
	slowDriver
	lengths map[string]time.Duration // of the leases
	slow    int                      // this acquire takes 3 s, whatever happens meanwhile
	always  bool                     // and so does each one of b
	held    string                   // a name that is not granted
	release time.Duration            // of a release

	mu       sync.Mutex
	asked    []string
	released []string
}

func (d *apartDriver) Acquire(ctx context.Context, r *acquire.Request) (*acquire.Grant, error) {
	if r.All != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if r.All != nil {
		return nil, acquire.ErrApart
	}
	if r.Name == d.held {
		return nil, &acquire.Failure{Text: "held", Errs: []error{api.ErrHeld}, Held: true}
	}
	d.asked = append(d.asked, r.Name)
	g := &acquire.Grant{
		Lock:  api.Lock{ID: strconv.Itoa(len(d.asked)), Name: r.Name, Creator: r.Creator},
		Since: d.clock.Now(), Length: d.lengths[r.Name], Creator: r.Creator, Values: r.Values,
		Log: r.Log,
	}
	if len(d.asked) == d.slow || d.always && r.Name == "b" {
		time.Sleep(3 * time.Second)
	}
	return g, nil
}

func (d *apartDriver) Release(_ context.Context, g *acquire.Grant, _ time.Duration) (bool, error) {
	time.Sleep(d.release)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released = append(d.released, g.Lock.ID)
	return true, nil
}

func (d *apartDriver) Drop(*acquire.Grant) {}

// apart runs f in a bubble, with a MultiMutex of this driver.
func apart(t *testing.T, d *apartDriver, f func(t *testing.T, m *MultiMutex)) {
	bubble.Test(t, func(t *testing.T) {
		client, err := api.New("http://backend:3000", "s3cr3t")
		require.NoError(t, err)
		d.renewals = make(chan *renewal, 100)
		m := NewMultiMutex(client, []string{"b", "a"})
		m.mutex.driver = d
		f(t, m)
		require.NoError(t, client.Close())
	})
}

// A lock that is lost just before the last one is granted is noticed.
func TestMultiMutexLosesOneBeforeTheLastIsGranted(t *testing.T) {
	d := &apartDriver{lengths: map[string]time.Duration{"a": 2 * time.Second, "b": time.Minute},
		slow: 2}
	apart(t, d, func(t *testing.T, m *MultiMutex) {
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		require.NoError(t, held.Err())
		synctest.Wait()
		require.Equal(t, []string{"a", "b", "a", "b"}, d.asked, "in the order of the names")
		require.ElementsMatch(t, []string{"1", "2"}, d.released)
		s, _ := FromContext(held)
		require.Equal(t, "4", s.Info().ID)
		require.Equal(t, []string{"b", "a"}, []string{s.Locks()[0].Name, s.Locks()[1].Name})
		require.NoError(t, m.Unlock(held))
		require.ElementsMatch(t, []string{"1", "2", "3", "4"}, d.released)
	})
}

// The lease that ends first counts. If it has ended unnoticed, as after a suspend, the contexts end
// with the loss.
func TestMultiMutexCountsTheFirstLease(t *testing.T) {
	d := &apartDriver{
		lengths: map[string]time.Duration{"a": time.Minute, "b": 20 * time.Second},
	}
	apart(t, d, func(t *testing.T, m *MultiMutex) {
		began := time.Now()
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		s, _ := FromContext(held)
		require.Equal(t, began.Add(20*time.Second), s.LeaseEnd())
		d.clock.Ahead.Store(int64(19 * time.Second))
		err = m.Unlock(held)
		require.ErrorIs(t, err, ErrLockLost)
		require.Equal(t, "b", context.Cause(held).(*LostError).Name)
		require.ErrorIs(t, s.Err(), ErrLockLost)
		synctest.Wait()
		require.ElementsMatch(t, []string{"1", "2"}, d.released)
	})
}

// A lock that is lost again and again, before the last one is granted, ends the Lock. Nothing has
// happened under it, so the loss is not reported as one.
func TestMultiMutexGivesUpAfterLosses(t *testing.T) {
	d := &apartDriver{always: true,
		lengths: map[string]time.Duration{"a": 2 * time.Second, "b": time.Minute}}
	apart(t, d, func(t *testing.T, m *MultiMutex) {
		var log bytes.Buffer
		m.mutex.log = slog.New(slog.NewTextHandler(&log, nil))
		m.mutex.onLost = func(e *LostError) { t.Errorf("reported: %v", e) }
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		began := time.Now()
		_, err := m.Lock(ctx)
		require.ErrorIs(t, err, ErrLockLost)
		require.ErrorContains(t, err, `relukko: locks "b, a": gave up after `)
		require.InDelta(t, time.Minute, time.Since(began), float64(10*time.Second))
		require.LessOrEqual(t, len(d.asked), 40, "with pauses")
		synctest.Wait()
		require.Len(t, d.released, len(d.asked))
		require.Contains(t, log.String(), "level=INFO msg=\"lock not acquired, retrying\"")
		require.NotContains(t, log.String(), "level=WARN")
	})
}

// A policy that stops ends the Lock at the first loss.
func TestMultiMutexStopsWithItsBackOff(t *testing.T) {
	d := &apartDriver{always: true,
		lengths: map[string]time.Duration{"a": 2 * time.Second, "b": time.Minute}}
	apart(t, d, func(t *testing.T, m *MultiMutex) {
		m.mutex.backOff = func() backoff.BackOff { return &backoff.StopBackOff{} }
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		_, err := m.Lock(ctx)
		require.ErrorIs(t, err, ErrLockLost)
		require.Len(t, d.asked, 2)
	})
}

// What was acquired is released before a TryLock returns, and before all are acquired anew.
func TestMultiMutexWaitsForItsReleases(t *testing.T) {
	d := &apartDriver{release: time.Second, held: "b", lengths: map[string]time.Duration{
		"a": time.Minute, "b": time.Minute,
	}}
	apart(t, d, func(t *testing.T, m *MultiMutex) {
		_, err := m.TryLock(t.Context())
		require.ErrorIs(t, err, ErrLocked)
		require.Equal(t, []string{"1"}, d.released)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err = m.TryLock(ctx)
		require.ErrorIs(t, err, ErrLocked)
		require.Equal(t, 100*time.Millisecond, time.Since(began), "but no longer than its context")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Len(t, d.released, 2)
	})
	d = &apartDriver{release: 5 * time.Second, slow: 2, lengths: map[string]time.Duration{
		"a": 2 * time.Second, "b": time.Minute,
	}}
	apart(t, d, func(t *testing.T, m *MultiMutex) {
		began := time.Now()
		held, err := m.Lock(t.Context())
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(began), 8*time.Second)
		require.ElementsMatch(t, []string{"1", "2"}, d.released)
		require.NoError(t, m.Unlock(held))
	})
}

// repeatingDriver grants the first of the names, also while another one holds it.
type repeatingDriver struct {
	apartDriver
	names [][]string
}

func (d *repeatingDriver) Acquire(ctx context.Context, r *acquire.Request,
) (*acquire.Grant, error) {
	d.names = append(d.names, r.Any)
	one := *r
	one.Name = r.Any[0]
	return d.apartDriver.Acquire(ctx, &one)
}

// A member that is granted just as another goroutine has lost it is released, and the others are
// asked for.
func TestPoolAsksAgainForTheOtherMembers(t *testing.T) {
	d := new(repeatingDriver)
	d.lengths = map[string]time.Duration{"a": time.Minute, "b": time.Minute}
	apart(t, &d.apartDriver, func(t *testing.T, m *MultiMutex) {
		p := NewPool(m.mutex.client, []string{"a", "b"})
		p.driver = d
		first, err := p.Lock(t.Context())
		require.NoError(t, err)
		second, err := p.TryLock(t.Context())
		require.NoError(t, err)
		synctest.Wait()
		s, _ := FromContext(second)
		require.Equal(t, "b", s.Name())
		require.Equal(t, [][]string{{"a", "b"}, {"a", "b"}, {"b"}}, d.names)
		require.Equal(t, []string{"2"}, d.released)
		require.NoError(t, p.Unlock(first))
		require.NoError(t, p.Unlock(second))
	})
}
