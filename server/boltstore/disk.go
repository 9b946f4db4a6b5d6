package boltstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	bolt "go.etcd.io/bbolt"
)

// disk is the file, which bbolt reads and writes.
//
// A bbolt transaction writes its pages to places that no earlier transaction uses, syncs them, then writes the meta
// page that makes them valid, and syncs that: two fdatasyncs. The meta pages of odd and even transactions have a place
// of their own, so a torn one costs the last transaction only, which was never acknowledged.
type disk struct {
	path string
	db   *bolt.DB
	file *os.File    // the one that db uses
	self os.FileInfo // which one that is
	txid uint64      // of the last transaction that is known to have come about
	lost error       // why db must not be used any more

	writeAt func(page []byte, at int64) (int, error) // of file, for affirm
}

// write makes the changes and the summary durable, all or nothing. After an error nobody knows which, and recover must
// succeed before the next write.
func (d *disk) write(changes []change, s *summary) (err error) {
	if d.lost != nil {
		return d.lost
	}
	if err := d.inPlace(); err != nil {
		return err
	}
	defer d.caught(&err)
	var txid uint64
	err = d.db.Update(func(tx *bolt.Tx) error {
		txid = uint64(tx.ID())
		for i := range changes {
			c := &changes[i]
			b := tx.Bucket([]byte(c.bucket))
			var err error
			if c.value == nil {
				err = b.Delete(c.key)
			} else {
				err = b.Put(c.key, c.value)
			}
			if err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(bucketStore)).Put([]byte(keyState), s.encode())
	})
	if err == nil {
		d.txid = txid
	}
	return err
}

// inPlace answers an error when the file is not what another server would open at its path. What is written then would be
// lost, and that other server give out the same names again.
func (d *disk) inPlace() error {
	there, err := os.Stat(d.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil // a directory that can't be searched any more does no harm
	}
	if err != nil || !os.SameFile(there, d.self) {
		return errors.New("the file was moved, deleted or replaced while in use: put it back, or restart")
	}
	return nil
}

// recover finds out whether the transaction that has failed came about after all, makes sure of it, and answers the
// state.
//
// After a failed write the last meta page may be in the kernel's memory, where bbolt sees it, but not on the disk; and
// an fsync that has failed is not made good by another one that succeeds, because the kernel may have given up the
// page. Were this transaction now built on, the next one would overwrite pages of the one before it, which is the one
// that a crash would bring back. So the page is written once more, as it is read, and synced: then what is read is what
// is there. The pages that it refers to were synced before it was first written.
func (d *disk) recover() (w *state, cameAbout bool, err error) {
	if d.lost != nil {
		return nil, false, d.lost
	}
	defer d.caught(&err)
	w, txid, err := d.load()
	if err == nil {
		err = d.affirm(txid)
	}
	if err != nil {
		return nil, false, err
	}
	cameAbout = txid != d.txid
	d.txid = txid
	return w, cameAbout, nil
}

// admit checks the file, which nobody has written to since it was opened, and answers its state. The process that had
// it before may have died at any time: what it did last is made sure of, before anybody gets to see it.
func (d *disk) admit() (w *state, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if d.lost != nil {
			err = d.damaged(err)
		}
	}()
	defer d.caught(&err)
	if d.self, err = d.file.Stat(); err == nil {
		err = syncDir(filepath.Dir(d.path)) // in case that who made the file did not come so far
	}
	if err != nil {
		return nil, fmt.Errorf("relukko: store %s: %w", d.path, err)
	}
	err = d.db.View(func(tx *bolt.Tx) error {
		err := verify(d.file, d.self.Size(), d.db.Info().PageSize, uint64(tx.ID()))
		if err != nil {
			return d.damaged(err)
		}
		return d.recognise(tx)
	})
	if err != nil {
		return nil, err
	}
	w, txid, err := d.load()
	if err != nil {
		return nil, d.damaged(err)
	}
	if err = d.affirm(txid); err != nil {
		return nil, fmt.Errorf("relukko: store %s: %w", d.path, err)
	}
	d.txid = txid
	return w, nil
}

// recognise answers an error when the file is a sound bbolt file, but not a store that this version can use.
func (d *disk) recognise(tx *bolt.Tx) error {
	store := tx.Bucket([]byte(bucketStore))
	if store == nil {
		return d.foreign(errors.New("it is a bbolt file of another program"))
	}
	format, err := strconv.Atoi(string(store.Get([]byte(keyFormat))))
	switch {
	case err != nil || format < 1:
		return d.damaged(errors.New("its format is missing"))
	case format > formatVersion:
		return fmt.Errorf("relukko: store %s: it has format %d, which a later version of relukko has written; "+
			"this version knows format %d. Use the later version, or another file", d.path, format, formatVersion)
	}
	return nil
}

// load reads everything. The answer belongs to transaction txid.
func (d *disk) load() (w *state, txid uint64, err error) {
	w = newState()
	err = d.db.View(func(tx *bolt.Tx) error {
		txid = uint64(tx.ID())
		store, locks, marks := tx.Bucket([]byte(bucketStore)), tx.Bucket([]byte(bucketLocks)), tx.Bucket([]byte(bucketMarks))
		if store == nil || locks == nil || marks == nil {
			return errors.New("a part is missing")
		}
		s, err := decodeSummary(store.Get([]byte(keyState)))
		if err != nil {
			return fmt.Errorf("summary: %w", err)
		}
		w.token, w.number = s.token, s.number
		if err := locks.ForEach(w.loadLock); err != nil {
			return err
		}
		if err := marks.ForEach(w.loadMark); err != nil {
			return err
		}
		switch {
		case w.nLocks != s.nLocks || w.nMarks != s.nMarks:
			return fmt.Errorf("there are %d locks and %d marks, where %d and %d should be", w.nLocks, w.nMarks, s.nLocks, s.nMarks)
		case w.sum != s.sum:
			return fmt.Errorf("the sum over all %d locks and %d marks is wrong", s.nLocks, s.nMarks)
		}
		return nil
	})
	return w, txid, err
}

func (w *state) loadLock(key, value []byte) error {
	r, err := decodeRecord(key, value)
	switch {
	case err != nil:
		return fmt.Errorf("lock %x: %w", key, err)
	case w.byID[r.ID] != nil || w.byName[r.Name] != nil || r.FencingToken > w.token:
		return fmt.Errorf("lock %q is in it twice, or its fencing token %d was never given out", r.Name, r.FencingToken)
	}
	w.insert(r)
	w.nLocks++
	w.sum += uint64(r.sum)
	return nil
}

func (w *state) loadMark(key, value []byte) error {
	t, err := decodeTombstone(key, value)
	if err != nil {
		return fmt.Errorf("mark %x: %w", key, err)
	}
	w.bury(t)
	w.nMarks++
	w.sum += uint64(t.sum)
	return nil
}

// affirm makes sure that the meta page of the transaction txid is on disk.
func (d *disk) affirm(txid uint64) error {
	page := make([]byte, d.db.Info().PageSize)
	at := int64(txid%2) * int64(len(page))
	if _, err := d.file.ReadAt(page, at); err != nil {
		return err
	}
	if _, err := d.writeAt(page, at); err != nil {
		return err
	}
	return d.file.Sync()
}

func (d *disk) close() error {
	if d.lost != nil {
		return d.abandon() // bbolt would wait for the transaction that went wrong
	}
	return d.db.Close()
}

// abandon lets go of the file without bbolt. Its memory map remains, which by itself would keep the file locked.
func (d *disk) abandon() error { return errors.Join(unlock(d.file), d.file.Close()) }

// caught turns a panic into an error: bbolt's own, or a fault when the disk fails under its memory map. Bbolt may still
// hold its locks afterwards, so it is not called again.
func (d *disk) caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%v", p)
		d.lost = fmt.Errorf("%v; restart to use it again", p)
	}
}
