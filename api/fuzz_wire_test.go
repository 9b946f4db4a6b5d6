package api_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// within is a transport into a backend of this process, without a network.
type within struct{ backend http.Handler }

func (w within) RoundTrip(r *http.Request) (*http.Response, error) {
	out := httptest.NewRecorder()
	w.backend.ServeHTTP(out, r)
	return out.Result(), nil
}

// What the client says and what our backend says is understood by the other:
// names and creators come back as they were, times to the microsecond, and
// what is refused is what the documentation says is refused.
func FuzzRoundTrip(f *testing.F) {
	f.Add("robot-arm-1", "bench-7 #k3v5x2m4q7ab", int64(60e9), int64(0))
	f.Add("a \"name\" \\ with / <everything> & \u2028\u00e4\U0001f916", "", int64(1), int64(-1))
	f.Add(strings.Repeat("x", 255), strings.Repeat("y", 256), int64(math.MaxInt64),
		int64(math.MinInt64))
	f.Add(strings.Repeat("x", 256), "c", int64(1500), int64(999))
	f.Add("bad \xff", "bad \x00", int64(3_155_760_001e9), int64(-9_000_000_000e9))
	f.Add("leg", "yy\xdcyy", int64(1), int64(1))
	f.Add("\u0085", "\u2028", int64(-5), int64(5))
	backend := server.New(memstore.New(), server.WithAPIKeys("key"))
	c, err := api.New("http://backend", "key",
		api.WithHTTPClient(&http.Client{Transport: within{backend}}), api.WithoutWatch())
	require.NoError(f, err)
	f.Cleanup(func() {
		require.NoError(f, c.Shutdown(context.Background()))
		require.NoError(f, backend.Shutdown(context.Background()))
	})
	f.Fuzz(func(t *testing.T, name, creator string, lease, expires int64) {
		plain := func(s string) bool {
			return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
		}
		l, err := c.Create(t.Context(), name, creator)
		fits := plain(name) && 1 <= len(name) && len(name) <= 255 && plain(creator) &&
			len(creator) <= 1024
		require.Equal(t, fits, err == nil, "%q %q: %v", name, creator, err)
		if err != nil {
			if _, ok := errors.AsType[*api.Error](err); ok {
				require.ErrorIs(t, err, api.ErrRefused)
			} else {
				require.True(t, api.NoEffect(err))
			}
			require.False(t, api.Transient(err))
			return
		}
		swept := lease < 0 || time.Unix(0, expires).Before(time.Now())
		defer func() {
			gone, err := c.Delete(t.Context(), l.ID)
			if swept && errors.Is(err, api.ErrGone) {
				return
			}
			require.NoError(t, err)
			require.Equal(t, l.ID, gone.ID)
			_, err = c.Delete(t.Context(), l.ID)
			require.ErrorIs(t, err, api.ErrGone)
		}()
		require.Equal(t, name, l.Name)
		require.Equal(t, creator, l.Creator)
		require.Positive(t, l.FencingToken)
		again, err := c.Get(t.Context(), l.ID)
		require.NoError(t, err)
		require.Equal(t, l, again, "read twice")
		_, err = c.Create(t.Context(), name, "another")
		e, ok := errors.AsType[*api.Error](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, 409, e.Status)
		require.Equal(t, l.ID, e.Holder.ID)

		// A lease that the client lets through is one that the backend grants.
		kept, err := c.KeepAlive(t.Context(), l.ID, time.Duration(lease))
		if e, ok := errors.AsType[*api.Error](err); ok {
			require.Equal(t, 400, e.Status)
			require.Greater(t, math.Abs(time.Duration(lease).Seconds()),
				100*365*24*time.Hour.Seconds())
		}
		if err == nil && lease > 0 {
			off := kept.ExpiresAt.Sub(kept.UpdatedAt) - time.Duration(lease)
			require.LessOrEqual(t, off.Abs(), time.Microsecond, "%v", time.Duration(lease))
		}
		at := time.Unix(0, expires)
		moved, err := c.Update(t.Context(), l.ID, api.Update{ExpiresAt: &at})
		if swept && errors.Is(err, api.ErrGone) {
			return
		}
		require.NoError(t, err)
		require.LessOrEqual(t, moved.ExpiresAt.Sub(at).Abs(), time.Microsecond)
	})
}
