//go:build unix

package settings

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewKey(t *testing.T) {
	require.Regexp(t, `^[0-9a-f]{64}$`, NewKey())
	require.NotEqual(t, NewKey(), NewKey())
}

func TestSplitKeys(t *testing.T) {
	require.Equal(t, []string{"new", "old"}, SplitKeys("new,old"))
	require.Equal(t, []string{"new", "old", "older"}, SplitKeys(" new ,\r\n\nold,older\n"))
	require.Empty(t, SplitKeys(" \n,"))
}

// The key is made once, and nobody else can read it, whatever the umask.
func TestKeepKey(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "state", "locks.db.key")
	key, err := KeepKey(path)
	require.NoError(t, err)
	again, err := KeepKey(path)
	require.NoError(t, err)
	require.Equal(t, key, again)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	info, err = os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|0o700, info.Mode())
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1, "no other file is left")
}

// Several that make the key at the same time get the same one.
func TestKeepKeyAtTheSameTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.key")
	var mu sync.Mutex
	keys := make(map[string]bool)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			key, err := KeepKey(path)
			mu.Lock()
			defer mu.Unlock()
			keys[key] = err == nil
		})
	}
	all.Wait()
	require.Len(t, keys, 1)
	for _, ok := range keys {
		require.True(t, ok)
	}
}

// A file that others can write or read, or that is no whole key, is refused.
func TestKeyFilesThatAreRefused(t *testing.T) {
	whole := NewKey() + "\n"
	for name, row := range map[string]struct {
		make func(path string) error
		says string
	}{
		"cut short": {func(p string) error { return os.WriteFile(p, []byte(whole[:40]), 0o600) },
			"it is damaged"},
		"without its end": {
			func(p string) error { return os.WriteFile(p, []byte(whole[:64]), 0o600) },
			"it is damaged"},
		"empty": {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "it is damaged"},
		"something else": {
			func(p string) error { return os.WriteFile(p, make([]byte, 1<<20), 0o600) },
			"it is damaged"},
		"for all to read": {func(p string) error {
			return errors.Join(os.WriteFile(p, []byte(whole), 0o600), os.Chmod(p, 0o604))
		}, "other users may read or write it: chmod 600"},
		"for the group to write": {func(p string) error {
			return errors.Join(os.WriteFile(p, []byte(whole), 0o600), os.Chmod(p, 0o620))
		}, "other users may read or write it: chmod 600"},
		"a link": {func(p string) error {
			return errors.Join(os.WriteFile(p+".x", []byte(whole), 0o600), os.Symlink(p+".x", p))
		}, "symbolic links"},
		"a link to nothing": {func(p string) error { return os.Symlink("/nowhere", p) },
			"symbolic links"},
		"a directory": {func(p string) error { return os.Mkdir(p, 0o700) },
			"it is no regular file"},
		"a named pipe": {func(p string) error { return syscall.Mkfifo(p, 0o600) },
			"it is no regular file"},
		"another user's": {func(p string) error {
			if os.Getuid() != 0 {
				return errors.New("only root can make one")
			}
			return errors.Join(os.WriteFile(p, []byte(whole), 0o600), os.Chown(p, 4711, 4711))
		}, "it belongs to another user"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "locks.db.key")
			if err := row.make(path); err != nil {
				t.Skip(err)
			}
			key, err := KeepKey(path)
			require.ErrorIs(t, err, ErrKeyFile)
			require.ErrorContains(t, err, path+": ")
			require.ErrorContains(t, err, row.says)
			require.Empty(t, key)
		})
	}
}

// A key that cannot be kept is a key nevertheless.
func TestKeyThatCannotBeKept(t *testing.T) {
	key, err := KeepKey("/dev/null/server.key")
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrKeyFile)
	require.Len(t, key, 64)
	require.Error(t, PublishKey(func(string) string { return "" }, DefaultURL(), key))
}

// What a server publishes replaces what another one has published.
func TestPublishKey(t *testing.T) {
	h := newHome(t)
	for range 2 {
		for _, base := range []string{DefaultURL(), "unix:///run/a.sock", "unix:///run/b.sock"} {
			key := NewKey()
			require.NoError(t, PublishKey(h.getenv, base, key))
			found, err := readMadeKey(PublishedKey(h.getenv, base))
			require.NoError(t, err)
			require.Equal(t, key, found)
		}
	}
}
