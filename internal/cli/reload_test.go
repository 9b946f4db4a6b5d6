package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// Files are loaded again when they have changed, once, and on SIGHUP in any case.
func TestReload(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "keys", "old")
	bubble.Test(t, func(t *testing.T) {
		var now atomic.Value
		var loads atomic.Int32
		r := &reloader{log: slog.New(slog.DiscardHandler)}
		require.NoError(t, r.add("keys", func() error {
			loads.Add(1)
			content, err := os.ReadFile(file)
			if err == nil && len(content) == 0 {
				err = errors.New("empty")
			}
			if err == nil {
				now.Store(string(content))
			}
			return err
		}, file))
		ctx, end := context.WithCancel(t.Context())
		hangups := make(chan os.Signal)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.run(ctx, hangups)
		}()
		after := func() {
			time.Sleep(reloadEvery)
			synctest.Wait()
		}
		after()
		require.EqualValues(t, 1, loads.Load(), "nothing has changed")
		require.NoError(t, os.WriteFile(file, []byte("new one"), 0o600))
		after()
		require.Equal(t, "new one", now.Load())
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		after()
		after()
		require.Equal(t, "new one", now.Load(), "what cannot be loaded changes nothing")
		require.EqualValues(t, 3, loads.Load(), "and is not tried again and again")
		require.NoError(t, os.Remove(file))
		after()
		require.NoError(t, os.WriteFile(file, []byte("back"), 0o600))
		after()
		require.Equal(t, "back", now.Load())
		hangups <- nil
		synctest.Wait()
		require.EqualValues(t, 6, loads.Load())
		end()
		<-ended
	})
}
