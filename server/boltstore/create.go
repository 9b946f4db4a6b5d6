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

// createFile makes an empty store at path, unless a file is there by then. The file appears only
// once it is whole and durable, and never replaces another: a crash leaves at worst an unused file
// path.new-…, and of two processes that start together one makes the store.
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
		b := tx.Bucket([]byte(bucketStore))
		if err := b.Put([]byte(keyFormat), []byte(strconv.Itoa(formatVersion))); err != nil {
			return err
		}
		return b.Put([]byte(keyState), first.encode())
	})
	return errors.Join(err, db.Close())
}

// firstToken returns a fencing token that is greater than those of stores that are lost, if the
// clock is right.
func (c *config) firstToken() uint64 { return uint64(max(c.now().UnixMicro(), 0)) }

// copyNew copies a small file to a path where there is none. A crash leaves a file that Open
// refuses.
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
	if runtime.GOOS == "windows" { // it cannot sync directories
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
