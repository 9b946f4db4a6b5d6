package relukko

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

// apartDriver grants a lock for each name. It does not grant all together.
type apartDriver struct {
	slowDriver
	lengths map[string]time.Duration // of the leases
	slow    int                      // this acquire takes 3 s, whatever happens meanwhile

	mu       sync.Mutex
	asked    []string
	released []string
}

func (d *apartDriver) Acquire(_ context.Context, r *acquire.Request) (*acquire.Grant, error) {
	if r.All != nil {
		return nil, acquire.ErrApart
	}
	d.asked = append(d.asked, r.Name)
	g := &acquire.Grant{
		Lock:  api.Lock{ID: strconv.Itoa(len(d.asked)), Name: r.Name, Creator: r.Creator},
		Since: d.clock.Now(), Length: d.lengths[r.Name], Creator: r.Creator, Values: r.Values,
		Log: r.Log,
	}
	if len(d.asked) == d.slow {
		time.Sleep(3 * time.Second)
	}
	return g, nil
}

func (d *apartDriver) Release(_ context.Context, g *acquire.Grant, _ time.Duration) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released = append(d.released, g.Lock.ID)
	return true, nil
}

func (d *apartDriver) Drop(*acquire.Grant) {}

// apart runs f in a bubble, with a MultiMutex of this driver.
func apart(t *testing.T, d *apartDriver, f func(t *testing.T, m *MultiMutex)) {
	synctest.Test(t, func(t *testing.T) {
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
