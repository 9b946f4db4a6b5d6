package boltstore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/server/boltstore"
)

// TestOpenMakesTheFile with its directories, for its owner only.
func TestOpenMakesTheFile(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "state", "relukko")
	s := open(t, filepath.Join(dir, "locks.db"))
	create(t, s, "robot-arm-1")
	for path, want := range map[string]fs.FileMode{
		filepath.Dir(dir):              0o700 | fs.ModeDir,
		dir:                            0o700 | fs.ModeDir,
		filepath.Join(dir, "locks.db"): 0o600,
	} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			require.Equal(t, want, info.Mode(), path)
		}
	}
	requireOnlyFile(t, filepath.Join(dir, "locks.db"))
}

func requireOnlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, filepath.Base(path), entries[0].Name())
}

// TestOneOfManyMakesTheFile: of those that start at once one gets it, the others hear so.
func TestOneOfManyMakesTheFile(t *testing.T) {
	t.Parallel()
	for range 1 {
		path := newPath(t)
		var wg sync.WaitGroup
		stores, errs := make([]*boltstore.Store, 8), make([]error, 8)
		for i := range stores {
			wg.Go(func() { stores[i], errs[i] = boltstore.OpenWith(path) })
		}
		wg.Wait()
		opened := 0
		for i, s := range stores {
			if errs[i] != nil {
				require.ErrorContains(t, errs[i], "another process has it open")
				continue
			}
			opened++
			create(t, s, "robot-arm-1")
			require.NoError(t, s.Close())
		}
		require.Equal(t, 1, opened)
		requireOnlyFile(t, path)
		require.Len(t, contentOf(t, path).Locks, 1)
	}
}

// TestWithoutHardLinks: some file systems have none.
func TestWithoutHardLinks(t *testing.T) {
	path := newPath(t)
	noLinks := boltstore.WithLink(func(old, new string) error {
		return &os.LinkError{Op: "link", Old: old, New: new, Err: errors.ErrUnsupported}
	})
	s := open(t, path, noLinks)
	create(t, s, "robot-arm-1")
	require.NoError(t, s.Close())
	requireOnlyFile(t, path)

	path = newPath(t)
	late := boltstore.WithLink(func(old, new string) error { // another process was faster
		require.NoError(t, os.WriteFile(new, []byte("not yet whole"), 0o600))
		return errors.ErrUnsupported
	})
	_, err := boltstore.OpenWith(path, late)
	require.ErrorContains(t, err, "it is not a relukko store, or damaged")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "not yet whole", string(data))
	requireOnlyFile(t, path)
}

// TestASecondProcessIsRefused within a second, and told which file it is and what to do.
func TestASecondProcessIsRefused(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	create(t, s, "robot-arm-1")
	out, err := child(t, "open", path).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "relukko: store "+path+
		": another process has it open: stop that one, or give each a file of its own")

	start := time.Now()
	_, err = boltstore.OpenWith(path)
	require.ErrorContains(t, err, "another process has it open")
	require.Less(t, time.Since(start), time.Second)
	create(t, s, "robot-arm-2")
	require.NoError(t, s.Close())
	out, err = child(t, "open", path).CombinedOutput()
	require.NoError(t, err, string(out))
}

// TestASuccessorWaitsALittle: a server that is being restarted may still be closing its file.
func TestASuccessorWaitsALittle(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	opened := later(func() error {
		next, err := boltstore.OpenWith(path)
		if err == nil {
			err = next.Close()
		}
		return err
	})
	require.NoError(t, s.Close())
	require.NoError(t, <-opened)
}

// TestWhatIsNoStoreIsLeftAlone, to the last byte, with an error that says what it is.
func TestWhatIsNoStoreIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"an empty file": {
			func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, nil, 0o600)) },
			"it is empty, and may be a store that has lost its content: " +
				"restore it from a backup, or delete it",
		},
		"a short file": {
			func(t *testing.T, path string) {
				require.NoError(
					t, os.WriteFile(path, []byte("hello\n"), 0o600))
			},
			"it is not a relukko store, or damaged",
		},
		"a long file": {
			func(t *testing.T, path string) {
				require.NoError(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
			},
			"it is not a relukko store, or damaged",
		},
		"a bbolt file of another program": {
			func(t *testing.T, path string) { makeBolt(t, path, "members", "a", "b") },
			"it is a bbolt file of another program",
		},
		"a bbolt file without a list of free pages": {
			func(t *testing.T, path string) {
				db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
				require.NoError(t, err)
				require.NoError(t, db.Update(func(tx *bolt.Tx) error {
					_,
						err := tx.CreateBucket([]byte("members"))
					return err
				}))
				require.NoError(t, db.Close())
			},
			"it is a bbolt file of another program",
		},
		"a store without a format": {
			func(t *testing.T, path string) { makeBolt(t, path, "relukko", "a", "b") },
			"it is damaged (its format is missing)",
		},
		"a store of a later version": {
			func(t *testing.T, path string) { makeBolt(t, path, "relukko", "format", "5") },
			"it has format 5, which a later version of relukko has written; " +
				"this version knows format 4",
		},
		"a store without its parts": {
			func(t *testing.T, path string) { makeBolt(t, path, "relukko", "format", "1") },
			"it is damaged (a part is missing)",
		},
		"a directory": {
			func(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o700)) },
			"it is not a file",
		},
		"a link to nowhere": {
			func(t *testing.T, path string) {
				require.NoError(
					t, os.Symlink(path+".nowhere", path))
			},
			"no such file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "locks.db")
			c.make(t, path)
			before, _ := os.ReadFile(path)
			for range 2 { // nothing of the first attempt is left
				_, err := boltstore.OpenWith(path)
				require.ErrorContains(t, err, c.want)
				require.ErrorContains(t, err, path)
				require.ErrorContains(t, err, "relukko: store ")
			}
			after, _ := os.ReadFile(path)
			require.Equal(t, before, after)
			requireOnlyFile(t, path)
		})
	}
}

func makeBolt(t *testing.T, path, bucket, key, value string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(key), []byte(value))
	}))
	require.NoError(t, db.Close())
}

// TestADirectoryThatCannotBeMade: the error says so.
func TestADirectoryThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := boltstore.OpenWith(filepath.Join(file, "locks.db"))
	require.ErrorContains(t, err, "relukko: store "+fmt.Sprint(file, "/locks.db"))
	require.ErrorContains(t, err, "not a directory")
}
