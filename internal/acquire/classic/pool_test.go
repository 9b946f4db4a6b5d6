package classic_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/acquire/classic"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

// poolOf asks for any one of the names, and does not wait for another holder.
func poolOf(mark string, names ...string) *acquire.Request {
	return &acquire.Request{
		Name: "pool", Any: names, Creator: wire.WithMark("bench-7", mark), Lease: time.Minute,
		Since: time.Now(), Silence: new(acquire.Silence), Patience: time.Minute,
		BackOff:  func() backoff.BackOff { return backoff.NewConstantBackOff(time.Second) },
		Progress: func(*api.Lock, int) {}, Values: context.Background(),
		Log: slog.New(slog.DiscardHandler),
	}
}

// A pool that another driver has asked for before gets a lock of its own, and what the other one
// may have made is deleted. When the other one goes on, it must use another mark: the cleanup may
// still be under way.
func TestPoolAfterAnotherDriver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := relukkotest.NewServer(t, relukkotest.InMemory(), relukkotest.WithoutStream())
		c := s.Client()
		const mark = "k3v5x2m4q7ab"
		_, err := c.Create(t.Context(), "bench-1", wire.WithMark("bench-7", mark))
		require.NoError(t, err)
		d := classic.New(c)
		r := poolOf(mark, "bench-1", "bench-2")
		r.Sent = time.Now()
		g, err := d.Acquire(t.Context(), r)
		require.NoError(t, err)
		_, other, _ := wire.CutMark(r.Creator)
		require.NotEqual(t, mark, other)
		_, granted, _ := wire.CutMark(g.Creator)
		require.NotEqual(t, mark, granted)
		time.Sleep(2 * time.Second)
		locks := s.Locks()
		require.Len(t, locks, 1)
		require.Equal(t, g.Lock.ID, locks[0].ID)
		answered, err := d.Release(t.Context(), g, time.Second)
		require.True(t, answered)
		require.NoError(t, err)
		d.Drop(g)
		require.NoError(t, c.Shutdown(t.Context()))
		require.Empty(t, s.Locks())
	})
}
