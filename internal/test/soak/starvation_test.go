package soak_test

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

var starve = flag.Duration("starve", 0, "how long to starve a process that holds locks")

// TestStarvation holds 20 locks of TTL 5 s in a process in which 64 goroutines
// never rest: renewals take seconds, and nothing may be lost. It disturbs all
// tests beside it, so it runs only when it is asked for:
//
//	go test ./internal/test/soak -run Starvation -starve=1m
func TestStarvation(t *testing.T) {
	if *starve == 0 {
		t.Skip("runs with -starve=1m only")
	}
	s := relukkotest.NewServer(t)
	c := s.Client()
	var held []context.Context
	var locks []*relukko.Mutex
	for i := range 20 {
		m := relukko.NewMutex(c, fmt.Sprint("arm-", i), relukko.WithTTL(5*time.Second))
		ctx, err := m.Lock(t.Context())
		require.NoError(t, err)
		held, locks = append(held, ctx), append(locks, m)
	}
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 64 {
		busy.Go(func() {
			for n := 0; ; n++ {
				if n%1_000_000 == 0 {
					select {
					case <-stop:
						return
					default:
					}
				}
			}
		})
	}
	time.Sleep(*starve)
	lost := 0
	for _, ctx := range held {
		if ctx.Err() != nil {
			lost++
			t.Log(context.Cause(ctx))
		}
	}
	close(stop)
	busy.Wait()
	t.Logf("%d renewals", s.Requests("PUT", "/v1/locks/{id}/keep_alive"))
	require.Zero(t, lost, "of %d locks", len(held))
	for i, m := range locks {
		require.NoError(t, m.Unlock(held[i]))
	}
}
