package classic

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/clock"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

func TestKindOfAnOutcome(t *testing.T) {
	refusal := func(status int, own bool) error {
		return fmt.Errorf("wrapped: %w", &api.Error{Op: "create", Status: status, Own: own})
	}
	for name, tt := range map[string]struct {
		r    created
		want kind
	}{
		"a lock":                        {created{}, granted},
		"held":                          {created{err: refusal(409, true)}, held},
		"something on the way says 409": {created{err: refusal(409, false)}, failed},
		"refused":                       {created{err: refusal(403, true)}, final},
		"a login page":                  {created{err: refusal(302, false)}, failed},
		"another protocol":              {created{err: refusal(101, false)}, failed},
		"a success that is no lock":     {created{err: refusal(200, false)}, final},
		"overload":                      {created{err: refusal(503, true)}, failed},
		"overload on the way":           {created{err: refusal(530, false)}, failed},
		"what the backend cannot do":    {created{err: refusal(501, true)}, final},
		"the client is closed":          {created{err: api.ErrClosed}, final},
		"the call's context has ended":  {created{err: context.Canceled}, final},
	} {
		require.Equal(t, tt.want, tt.r.kind(), name)
	}
}

func TestKindOfANetworkError(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := backend(t, nothing)
		_, err := d.client.Create(t.Context(), testName, "bench-7")
		r := created{err: err}
		require.Equal(t, failed, r.kind())

		_, err = d.client.Create(t.Context(), "", "bench-7")
		r = created{err: err}
		require.Equal(t, final, r.kind(), "the name is empty")
	})
}

func TestQueuedForLess(t *testing.T) {
	var c clock.Clock
	sent := c.Now()
	for _, tt := range []struct {
		wait, after time.Duration
		want        bool
	}{
		{0, 0, false},
		{30 * time.Second, 0, true},
		{30 * time.Second, 500 * ms, true},
		{30 * time.Second, 501 * ms, false},
		{600 * ms, 300 * ms, true},
		{600 * ms, 301 * ms, false},
	} {
		r := created{sent: sent, wait: tt.wait}
		require.Equal(t, tt.want, r.queuedForLess(sent.Add(tt.after)), "%+v", tt)
	}
}

func TestBears(t *testing.T) {
	lock := lockOf(1, testName, mark)
	require.True(t, bears(lock, mark))
	require.False(t, bears(lock, mark2))
	lock.Creator = mark
	require.False(t, bears(lock, mark), "that is a creator and no mark")
	lock.Creator = ""
	require.False(t, bears(lock, ""), "nobody's lock bears no mark")
}
