package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Files are loaded again when they have changed, once, and on SIGHUP in any case.
func TestReload(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "keys", "old")
	synctest.Test(t, func(t *testing.T) {
		var now string
		loads := 0
		r := &reloader{log: slog.New(slog.DiscardHandler)}
		require.NoError(t, r.add("keys", func() error {
			loads++
			content, err := os.ReadFile(file)
			if err == nil && len(content) == 0 {
				err = errors.New("empty")
			}
			if err == nil {
				now = string(content)
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
		require.Equal(t, 1, loads, "nothing has changed")
		require.NoError(t, os.WriteFile(file, []byte("new one"), 0o600))
		after()
		require.Equal(t, "new one", now)
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		after()
		after()
		require.Equal(t, "new one", now, "what cannot be loaded changes nothing")
		require.Equal(t, 3, loads, "and is not tried again and again")
		require.NoError(t, os.Remove(file))
		after()
		require.NoError(t, os.WriteFile(file, []byte("back"), 0o600))
		after()
		require.Equal(t, "back", now)
		hangups <- nil
		synctest.Wait()
		require.Equal(t, 6, loads)
		end()
		<-ended
	})
}
