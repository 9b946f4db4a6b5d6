package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	bolt "go.etcd.io/bbolt"
)

// createFile makes an empty store at path, unless there is something by then. The file appears at its place only once
// it is whole and durable, and never takes the place of another: a crash leaves no half of a store, at worst a file
// path.new-… that nobody needs, and of two processes that start at once one makes it.
func (c *config) createFile(path string) error {
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
	if err := c.writeEmpty(draft.Name()); err != nil {
		return err
	}
	// The directories have to last as long as the file. Those above that can't be opened were not made here.
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
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// writeEmpty makes a store of the empty file at path.
func (c *config) writeEmpty(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	first := summary{token: c.firstToken()}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{bucketStore, bucketLocks, bucketMarks} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		store := tx.Bucket([]byte(bucketStore))
		if err := store.Put([]byte(keyFormat), []byte(strconv.Itoa(formatVersion))); err != nil {
			return err
		}
		return store.Put([]byte(keyState), first.encode())
	})
	return errors.Join(err, db.Close())
}

// firstToken answers a fencing token that is higher than those of stores that were there before and are lost, when the
// clock is right.
func (c *config) firstToken() uint64 { return uint64(max(c.now().UnixMicro(), 0)) }

// copyNew copies a small file to a path where there is none. A crash in between leaves a file that Open refuses.
func copyNew(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
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
	if runtime.GOOS == "windows" { // which knows no such thing
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
