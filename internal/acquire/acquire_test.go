package acquire

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errTest = errors.New("no connection")

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errTest, false},
		{context.Canceled, false},
		{api.ErrClosed, false},
		{&api.Error{Status: 403, Own: true}, true},
		{&api.Error{Status: 501, Own: true}, true},
		{fmt.Errorf("wrapped: %w", &api.Error{Status: 400, Own: true}), true},
		{&api.Error{Status: 403}, false},            // from something on the way
		{&api.Error{Status: 503, Own: true}, false}, // it passes
		{&api.Error{Status: 409, Own: true}, false}, // held
		{&Failure{Errs: []error{errTest}}, false},   // why a request was not granted
		{&Failure{Errs: []error{api.ErrHeld}}, false},
	} {
		require.Equal(t, tt.want, Refused(tt.err), "%v", tt.err)
	}
}

func TestGaveUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		since := time.Now()
		time.Sleep(1500 * time.Millisecond)
		for _, tt := range []struct {
			cause error
			text  string
			errs  []error
		}{
			{nil, "not acquired within 1.5s: context canceled", []error{context.Canceled}},
			{errTest, "not acquired within 1.5s: no connection",
				[]error{errTest, context.Canceled}},
			{api.ErrClosed, "not acquired within 1.5s: relukko: client closed",
				[]error{api.ErrClosed}},
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(tt.cause)
			f := GaveUp(ctx, since)
			require.EqualError(t, f, tt.text)
			require.Equal(t, tt.errs, f.Errs)
			for _, err := range tt.errs {
				require.ErrorIs(t, f, err)
			}
			require.False(t, f.Held)
		}
	})
}

func TestSilenceIsSharedByThoseWhoQueue(t *testing.T) {
	const patience = time.Minute
	bubble.Test(t, func(t *testing.T) {
		var s Silence
		first := time.Now()
		since, err := s.Since(first, patience)
		require.Equal(t, first, since)
		require.NoError(t, err)

		time.Sleep(patience)
		second := first.Add(30 * time.Second)
		_, err = s.Since(first, patience)
		require.NoError(t, err, "nobody has waited it out yet")
		s.GaveUp(errTest)
		_, err = s.Since(first, patience)
		require.Equal(t, errTest, err)
		_, err = s.Since(second, patience)
		require.NoError(t, err, "it began only then")
		_, err = s.Since(first, 0)
		require.NoError(t, err, "no limit")

		s.Heard()
		heard := time.Now()
		since, err = s.Since(first, patience)
		require.Equal(t, heard, since)
		require.NoError(t, err)
		time.Sleep(patience)
		_, err = s.Since(first, patience)
		require.NoError(t, err, "what was before is forgotten")
		since, _ = s.Since(time.Now(), patience)
		require.Equal(t, time.Now(), since)
	})
}
