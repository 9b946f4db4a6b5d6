package boltstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
)

// lockWait is how long opening waits for another process to close the file, such as a server
// that is being restarted.
const lockWait = 700 * time.Millisecond

// logSize is the size of the write-ahead log of a new file.
const logSize = 2 << 20

type config struct {
	log     *slog.Logger
	now     func() time.Time
	link    func(old, new string) error
	logSize int
}

func newConfig(log *slog.Logger) config {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return config{log: log, now: time.Now, link: os.Link, logSize: logSize}
}

// checkFile makes sure that a file that may be a store is at path: it makes one if there is none.
func (c *config) checkFile(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = c.createFile(path, c.writeEmpty)
		if err == nil || errors.Is(err, fs.ErrExist) { // another process has made it
			info, err = os.Stat(path)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("relukko: store %s: %w", path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("relukko: store %s: it is not a file", path)
	case info.Size() == 0:
		return fmt.Errorf("relukko: store %s: it is empty, and may be a store that has lost "+
			"its content: restore it from a backup, or delete it to start without any locks", path)
	}
	return nil
}

// createFile makes the store at path that write makes of an empty file. It appears only once it is
// whole and durable, and never replaces another: a crash leaves at worst an unused file path.new-…,
// and of two processes that start together one makes the store. The other gets fs.ErrExist.
func (c *config) createFile(path string, write func(draft string) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	draft, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name())
	if err := draft.Close(); err != nil {
		return err
	}
	if err := write(draft.Name()); err != nil {
		return err
	}
	// The directories must be durable too. One that cannot be opened was not made here.
	for at := dir; ; at = filepath.Dir(at) {
		if err := syncDir(at); err != nil && (at == dir || !errors.Is(err, fs.ErrPermission)) {
			return err
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	err = c.link(draft.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = copyNew(draft.Name(), path) // a file system without hard links
	}
	return errors.Join(err, syncDir(dir))
}

// writeEmpty makes a store of the empty file at path.
func (c *config) writeEmpty(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{bucketStore, bucketLocks, bucketMarks} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		if err := createLog(tx, c.logSize); err != nil {
			return err
		}
		return putSummary(tx, new(summary), 0)
	})
	return errors.Join(err, db.Close())
}

// putSummary writes the summary, and the format, since the file may be of an earlier version. With
// it begins the epoch of the log that follows the given one.
func putSummary(tx *bolt.Tx, s *summary, epoch uint64) error {
	b := tx.Bucket([]byte(bucketStore))
	s.epoch = nextEpoch(epoch)
	if err := b.Put([]byte(keyFormat), []byte(strconv.Itoa(formatVersion))); err != nil {
		return err
	}
	return b.Put([]byte(keyState), s.encode())
}

// copyNew copies a file to a path where there is none. A crash leaves a file that Open
// refuses.
func copyNew(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, source)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(to)
		return fmt.Errorf("relukko: store %s: %w", to, err)
	}
	return nil
}

// syncDir makes the entries of a directory durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // it cannot sync directories
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
