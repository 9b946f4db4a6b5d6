package classic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// What a status does to a request.
const (
	refused = "refused" // it ends, with what the backend said
	isHeld  = "held"    // the lock is held: the call waits for it
	isGone  = "gone"    // the lock is gone
	// It is retried: for a minute without word, while there is a lease, for 10 s.
	outage = "outage"
	ended  = "ended" // it ends, since what was answered makes no sense
	way    = "way"   // it ends after 10 s, and says that something on the way refuses
)

// statuses is the whole of it. The backend's own refusal has a body of exactly
// the status and a message; all else comes from something on the way.
var statuses = []struct {
	from, to               int
	own                    bool
	create, renew, release string
}{
	// An informational answer has no body, so it is nobody's refusal.
	{100, 199, true, outage, outage, outage},
	// A success that is not what was asked for.
	{200, 299, true, ended, outage, outage},
	// The backend refuses, for a reason that stays. A 304 has no body.
	{300, 303, true, refused, refused, refused},
	{304, 304, true, way, outage, outage},
	{305, 403, true, refused, refused, refused},
	{404, 404, true, refused, isGone, isGone},
	{405, 408, true, refused, refused, refused},
	{409, 409, true, isHeld, outage, outage},
	{410, 421, true, refused, refused, refused},
	{422, 422, true, refused, isGone, isGone},
	{423, 428, true, refused, refused, refused},
	{429, 429, true, outage, outage, outage},
	{430, 499, true, refused, refused, refused},
	{500, 500, true, outage, outage, outage},
	{501, 501, true, refused, refused, refused},
	{502, 504, true, outage, outage, outage},
	{505, 599, true, refused, refused, refused},

	// Something on the way answers: while a lock is held that ends nothing.
	{100, 199, false, outage, outage, outage},
	{200, 299, false, ended, outage, outage},
	{300, 399, false, way, outage, outage}, // a login page
	{400, 400, false, outage, outage, outage},
	{401, 401, false, way, outage, outage}, // a gateway that wants another key
	{402, 402, false, outage, outage, outage},
	{403, 405, false, way, outage, outage}, // a gateway, a wrong path
	{406, 599, false, outage, outage, outage},
}

func TestEveryStatus(t *testing.T) {
	for status := 100; status <= 599; status++ {
		for _, own := range []bool{true, false} {
			name := fmt.Sprintf("%d, own %t", status, own)
			a := answer{status: status, body: "<html>try the front door"}
			if own {
				a.body = fmt.Sprintf(`{"status":%d,"message":"try the front door"}`, status)
			}
			rows := 0
			for _, row := range statuses {
				if row.own != own || status < row.from || row.to < status {
					continue
				}
				rows++
				t.Run(name, func(t *testing.T) {
					bubble.Test(t, func(t *testing.T) {
						assert.Equal(t, row.create, onCreate(t, a), "create")
						assert.Equal(t, row.renew, onRenew(t, a), "renew")
						assert.Equal(t, row.release, onRelease(t, a), "release")
					})
				})
			}
			require.Equal(t, 1, rows, name)
		}
	}
}

// onCreate returns what a call makes of a backend that answers its creates so.
func onCreate(t *testing.T, a answer) string {
	d := backend(t, func(r *http.Request) answer {
		if r.Method == http.MethodGet {
			return answer{status: 200, body: "[]"}
		}
		return a
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	began := time.Now()
	_, err := d.Acquire(ctx, request())
	took := time.Since(began)

	var f *acquire.Failure
	require.ErrorAs(t, err, &f)
	status := fmt.Sprint(a.status)
	switch {
	case f.Held:
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return isHeld
	case took == 0:
		require.ErrorContains(t, err, "not acquired from http://backend:3000")
		require.ErrorContains(t, err, status)
		if a.status < 300 {
			require.False(t, acquire.Refused(err))
			return ended
		}
		require.True(t, acquire.Refused(err))
		return refused
	case took < 14*time.Second:
		require.GreaterOrEqual(t, took, 10*time.Second)
		require.ErrorContains(t, err, "something on the way to http://backend:3000 refuses")
		require.ErrorContains(t, err, status)
		return way
	}
	require.InDelta(t, 58*time.Second, took, float64(2*time.Second))
	require.ErrorContains(t, err, "without an answer from http://backend:3000")
	return outage
}

// onRenew returns what a lease makes of a renewal that is answered so.
func onRenew(t *testing.T, a answer) string {
	d := backend(t, func(*http.Request) answer { return a })
	_, err := d.Renew(t.Context(), testGrant(), time.Minute, false)
	require.Error(t, err)
	switch {
	case errors.Is(err, api.ErrGone):
		return isGone
	case acquire.Refused(err):
		return refused
	}
	return outage
}

// onRelease returns what a release makes of a backend that answers it so.
func onRelease(t *testing.T, a answer) string {
	d := backend(t, func(*http.Request) answer { return a })
	began := time.Now()
	answered, err := d.Release(t.Context(), testGrant(), releaseTimeout)
	took := time.Since(began)
	require.Error(t, err)
	if !answered {
		require.Equal(t, releaseTimeout, took)
		return outage
	}
	require.Zero(t, took)
	if errors.Is(err, api.ErrGone) {
		return isGone
	}
	require.True(t, acquire.Refused(err))
	return refused
}

func testGrant() *acquire.Grant {
	return &acquire.Grant{
		Lock: *lockOf(1, testName, mark), Length: time.Minute, Values: context.Background(),
		Log: discard,
	}
}
