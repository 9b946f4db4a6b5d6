package classic

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
)

const releasePause = 200 * time.Millisecond

func TestRelease(t *testing.T) {
	mine := lock(200, 1, mark, time.Minute)
	for name, tt := range map[string]struct {
		release  []step
		sent     bool // a release was never answered
		answered bool
		err      error
		took     time.Duration
	}{
		"released":                {release: now(mine), answered: true},
		"gone":                    {release: now(says(404)), answered: true, err: api.ErrGone},
		"gone, as older ones say": {release: now(says(422)), answered: true, err: api.ErrGone},
		"gone by an earlier one":  {release: now(says(404)), sent: true, answered: true},
		"gone after no answer": {release: now(lost, says(404)), answered: true,
			took: releasePause},
		"gone after a 503": {release: now(says(503), says(404)), answered: true,
			took: releasePause},
		"gone after a 429": {release: now(says(429, "Retry-After: 2"), says(404)), answered: true,
			err: api.ErrGone, took: 2 * time.Second},
		"refused": {release: now(says(403)), answered: true, err: api.ErrRefused},
		"patience is asked for, but not for as long": {
			release: now(says(503, "Retry-After: 3600"),
				mine), answered: true, took: 5 * time.Second},
		"too slow": {release: []step{at(20*time.Second, lost)}, err: context.DeadlineExceeded,
			took: releaseTimeout},
		"the second attempt is too slow": {
			release:  []step{at(0, lost), at(7*time.Second, lost), at(0, mine)},
			answered: true, took: (releasePause + 5*time.Second) * 21 / 20},
	} {
		t.Run(name, func(t *testing.T) {
			scripted(t, &script{release: tt.release}, func(t *testing.T, d *Driver) {
				g := testGrant()
				g.ReleaseSent = tt.sent
				began := time.Now()
				answered, err := d.Release(t.Context(), g, releaseTimeout)
				require.Equal(t, tt.took, time.Since(began))
				require.Equal(t, tt.answered, answered)
				if tt.err == nil {
					require.NoError(t, err)
				} else if tt.err != context.DeadlineExceeded {
					require.ErrorIs(t, err, tt.err)
				} else {
					require.Error(t, err)
				}
			})
		})
	}
}

// TestReleasesThatFailBecomeFewer: the server may be down for long, and have many locks.
func TestReleasesThatFailBecomeFewer(t *testing.T) {
	s := &script{release: slices.Repeat(now(says(503)), 2000)}
	scripted(t, s, func(t *testing.T, d *Driver) {
		_, err := d.Release(t.Context(), testGrant(), 5*time.Minute)
		require.Error(t, err)
		require.InDelta(t, 130, len(s.requests()), 10)
	})
}

func TestRenew(t *testing.T) {
	s := &script{renew: now(says(503), lock(200, 1, mark, time.Minute))}
	scripted(t, s, func(t *testing.T, d *Driver) {
		_, err := d.Renew(t.Context(), testGrant(), time.Minute, false)
		require.True(t, api.Transient(err))
		require.False(t, acquire.Refused(err))
		require.Len(t, s.requests(), 1, "one attempt")
		l, err := d.Renew(t.Context(), testGrant(), time.Minute, true)
		require.NoError(t, err)
		require.Equal(t, testID(1), l.ID)
	})
}

// TestRetriesTakeAConnectionOfTheirOwn since the kept ones may all be dead.
func TestRetriesTakeAConnectionOfTheirOwn(t *testing.T) {
	var alone []bool // whether a request was the only one of its connection
	deletes := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		alone = append(alone, r.Close)
		if r.Method == http.MethodDelete {
			if deletes++; deletes == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
		io.WriteString(w, lockJSON(1, testName, mark, time.Minute))
	}))
	defer s.Close()
	client, err := api.New(s.URL, "s3cr3t", api.WithoutWatch())
	require.NoError(t, err)
	defer client.Close()
	d := New(client)
	for _, retry := range []bool{false, true, false} {
		_, err := d.Renew(t.Context(), testGrant(), time.Minute, retry)
		require.NoError(t, err)
	}
	require.Equal(t, []bool{false, true, false}, alone)
	alone = nil
	_, err = d.Release(t.Context(), testGrant(), releaseTimeout)
	require.NoError(t, err)
	require.Equal(t, []bool{false, true}, alone)
}
