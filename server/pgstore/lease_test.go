package pgstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/store"
)

// TestLeaseGraceInSQL is the one of package store.
func TestLeaseGraceInSQL(t *testing.T) {
	url := empty(t)
	open(t, url)
	for _, lease := range []time.Duration{
		-time.Hour, 0, time.Second, 10 * time.Second, 10*time.Second + 10*time.Microsecond,
		time.Minute, 100 * time.Second, 365 * 24 * time.Hour,
	} {
		var grace time.Duration
		query(t, url, &grace, `SELECT relukko_go.lease_grace($1)`, lease)
		require.Equal(t, store.LeaseGrace(lease), grace, lease)
	}
	s := open(t, url)
	in := newLock("robot-arm-1")
	in.TTL, in.Leased = 100*time.Second, true
	lock := create(t, s, in)
	var lease time.Duration
	const get = `SELECT lease FROM relukko_go.locks`
	for name, c := range map[string]struct {
		change store.Change
		want   func(store.Lock) time.Duration
	}{
		"renewed": {store.Change{Lease: new(time.Minute)},
			func(store.Lock) time.Duration { return time.Minute }},
		"set": {store.Change{ExpiresAt: &lock.ExpiresAt},
			func(l store.Lock) time.Duration { return l.ExpiresAt.Sub(l.UpdatedAt) }},
		"extended": {store.Change{Extend: time.Hour},
			func(l store.Lock) time.Duration { return l.ExpiresAt.Sub(l.UpdatedAt) }},
	} {
		changed, err := s.Update(t.Context(), lock.ID, c.change)
		require.NoError(t, err)
		query(t, url, &lease, get)
		require.Equal(t, c.want(changed), lease, name)
		_, err = s.Update(t.Context(), lock.ID, store.Change{Creator: new("bench-7")})
		require.NoError(t, err)
		query(t, url, &lease, get)
		require.Equal(t, c.want(changed), lease, "renamed")
	}
}
