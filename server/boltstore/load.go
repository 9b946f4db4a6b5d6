package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"gitlab.com/relukko/relukko-go/internal/codec"
	"gitlab.com/relukko/relukko-go/internal/lockset"
	"gitlab.com/relukko/relukko-go/server/store"
)

const loadBatch = 20_000 // records that one transaction writes

// Load makes a store with that content in a new file at path. The file appears only once it is
// whole, durable and checked as Open does it: a crash leaves at worst an unused file path.new-…
// Load returns an error, and changes nothing, if there is a file at path.
//
// An entry of the history that ended at the same time as the one before it is moved by 1 µs.
func Load(path string, content *store.Content) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("relukko: store: %w", err)
	}
	c := newConfig(nil)
	if _, err = os.Lstat(path); err == nil {
		err = fs.ErrExist
	} else {
		err = c.createFile(path, func(draft string) error { return c.writeContent(draft, content) })
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("relukko: store %s: there is a file already, and it was left as it is: "+
			"move it away, or give another path", path)
	case err != nil:
		return fmt.Errorf("relukko: store %s: %w", path, err)
	}
	return nil
}

// writeContent makes a store of the empty file at path, syncs it, and checks it.
func (c *config) writeContent(path string, content *store.Content) error {
	if err := c.writeEmpty(path); err != nil {
		return err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait})
	if err != nil {
		return err
	}
	db.NoSync = true
	l := &loader{db: db, state: newState()}
	if err := errors.Join(l.load(content), db.Close()); err != nil {
		return err
	}
	d, err := openDisk(path, c.logSize)
	if err != nil {
		return err
	}
	_, err = d.admit()
	return errors.Join(err, d.close())
}

// loader writes records into a file, in transactions of loadBatch. Its state knows the locks and
// marks that were written, and counts all records.
type loader struct {
	db *bolt.DB
	*state
}

func (l *loader) load(c *store.Content) error {
	l.Token, l.Cancelled.Last = c.Token, uint64(len(c.Marks))
	for _, r := range c.Locks {
		key := numberKey(r.FencingToken)
		value := encodeRecord(key, &lockset.Record{Record: r})
		if err := l.loadLock(key, value); err != nil {
			return err
		}
		if err := l.put(change{bucket: bucketLocks, key: key, value: value}); err != nil {
			return err
		}
	}
	for i, m := range c.Marks {
		key := numberKey(uint64(i + 1))
		value := encodeMark(key, &lockset.Mark{
			Key: lockset.Key{Owner: m.Owner, Mark: m.Mark}, Until: m.Until,
		})
		if err := l.loadMark(key, value); err != nil {
			return err
		}
		if err := l.put(change{bucket: bucketMarks, key: key, value: value}); err != nil {
			return err
		}
	}
	for e, err := range c.History {
		if err != nil {
			return err
		}
		if next := l.Ended.Add(time.Microsecond); e.At.Before(next) {
			e.At = next
		}
		key := codec.AppendMoment(nil, e.At)
		value := encodeEnded(key, &e)
		if err := l.loadEnded(key, value); err != nil {
			return err
		}
		if err := l.put(change{bucket: bucketHistory, key: key, value: value}); err != nil {
			return err
		}
	}
	if err := l.flush(); err != nil {
		return err
	}
	return l.db.Sync()
}

func (l *loader) put(c change) error {
	l.stage(c)
	if len(l.changes) < loadBatch {
		return nil
	}
	return l.flush()
}

// flush writes what is staged, and the summary of all.
func (l *loader) flush() error {
	err := l.db.Update(func(tx *bolt.Tx) error {
		if err := apply(tx, l.changes); err != nil {
			return err
		}
		return putSummary(tx, l.summary(), 0)
	})
	clear(l.changes)
	l.changes = l.changes[:0]
	return err
}
