//go:build linux

package stream

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// served records the order in which waiters are served.
type served struct {
	t     testing.TB
	group sync.WaitGroup
	mu    sync.Mutex
	order []string
}

// join begins to wait for a name, and releases it once it is acquired.
func (s *served) join(c *api.Client, name, creator string, opts ...relukko.Option) {
	l := lockSoon(s.t, c, name, append(opts, relukko.WithCreator(creator))...)
	s.group.Go(func() {
		err := l.g.Wait()
		s.mu.Lock()
		s.order = append(s.order, creator)
		s.mu.Unlock()
		if err == nil {
			err = l.m.Unlock(l.held)
		}
		if err != nil {
			s.t.Errorf("%s: %v", creator, err)
		}
	})
}

// wait returns the order once all are served.
func (s *served) wait() []string {
	s.group.Wait()
	return s.order
}

// TestRestartKeepsTheOrder restarts a server while 100 wait for one name, on 20 connections. They
// are served in the order in which they came, and before those who come after the restart.
func TestRestartKeepsTheOrder(t *testing.T) {
	parallel(t)
	for name, signal := range map[string]syscall.Signal{
		"SIGTERM": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL,
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			restart(t, signal)
		})
	}
}

func restart(t *testing.T, signal syscall.Signal) {
	const name, waiters, clients, newcomers = "robot-arm-1", 100, 20, 10
	n := serve(t, boltStore(t))
	holder := lockSoon(t, newClient(t, n.url), name)
	holder.wait(t)

	s := &served{t: t}
	var want []string
	var all []*api.Client
	for range clients {
		all = append(all, newClient(t, n.url))
	}
	for i := range waiters {
		want = append(want, fmt.Sprint("waiter-", i))
		s.join(all[i%clients], name, want[i])
		awaitWaiters(t, n.url, name, i+1)
	}
	require.Equal(t, want, waiting(t, n.url, name))

	pause(time.Second) // after 250 ms a client learns its place exactly
	n.stop(signal)
	n.start()
	began := time.Now()
	for i := range newcomers {
		s.join(newClient(t, n.url), name, fmt.Sprint("newcomer-", i))
	}
	awaitWaiters(t, n.url, name, waiters+newcomers) // which may take longer than the hold-off
	holder.unlock(t)
	order := s.wait()
	require.Equal(t, want, order[:waiters])
	fmt.Printf("%s: %d in order, all served within %v\n", t.Name(), waiters,
		time.Since(began).Round(time.Millisecond))
}
