package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// disk is the file, which bbolt reads and writes.
//
// A bbolt transaction writes its pages to places that no earlier transaction uses and syncs them,
// then writes the meta page that makes them valid and syncs that: two fdatasyncs. Odd and even
// transactions have separate meta pages, so a torn one costs only the last transaction, which was
// never acknowledged.
type disk struct {
	path string
	db   *bolt.DB
	file *os.File    // the one that db uses
	self os.FileInfo // identifies file
	txid uint64      // of the last transaction that is known to be committed
	lost error       // why db must not be used any more

	writeAt func(page []byte, at int64) (int, error) // of file, for affirm
}

// openDisk opens the file for this process alone. It writes nothing.
func openDisk(path string) (_ *disk, err error) {
	d := &disk{path: path}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil { // bbolt relies on its file being whole
			err = errors.Join(d.damaged(fmt.Errorf("%v", p)), d.abandon())
		}
	}()
	d.db, err = bolt.Open(path, 0, &bolt.Options{
		Timeout:        lockWait,
		FreelistType:   bolt.FreelistMapType,
		NoFreelistSync: true, // otherwise bbolt may write to a file that is not a store
		OpenFile: func(path string, flag int, mode os.FileMode) (f *os.File, err error) {
			d.file, err = os.OpenFile(path, flag&^os.O_CREATE, mode)
			return d.file, err
		},
	})
	switch {
	case err == nil:
		// The list of free pages costs a page per transaction. With it a failed transaction can be
		// rolled back, and the file be opened, without a walk through the whole file.
		d.db.NoFreelistSync = false
		d.writeAt = d.file.WriteAt
		return d, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("relukko: store %s: another process has it open: "+
			"stop that one, or give each a file of its own", path)
	case errors.As(err, new(*fs.PathError)):
		return nil, fmt.Errorf("relukko: store: %w", err) // it names the file
	case errors.As(err, new(syscall.Errno)):
		return nil, fmt.Errorf("relukko: store %s: %w", path, err)
	default:
		return nil, d.foreign(err)
	}
}

func (d *disk) foreign(err error) error {
	return fmt.Errorf("relukko: store %s: it is not a relukko store, or damaged (%w). "+
		"It was left as it is: give another path, or restore it from a backup", d.path, err)
}

func (d *disk) damaged(err error) error {
	return fmt.Errorf("relukko: store %s: it is damaged (%w). "+
		"It was left as it is: restore it from a backup, or move it away to start without "+
		"any locks",
		d.path, err)
}

// write makes the changes and the summary durable, all or nothing. After an error the outcome is
// unknown, and recover must succeed before the next write.
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
		return apply(tx, changes, s)
	})
	if err == nil {
		d.txid = txid
	}
	return err
}

// apply makes the changes and writes the summary in a transaction.
func apply(tx *bolt.Tx, changes []change, s *summary) error {
	for i := range changes {
		c := &changes[i]
		b, err := bucketOf(tx, c.bucket)
		if err != nil {
			return err
		}
		if c.value == nil {
			err = b.Delete(c.key)
		} else {
			err = b.Put(c.key, c.value)
		}
		if err != nil {
			return err
		}
	}
	return putSummary(tx, s)
}

// forEach is ForEach of a bucket that there may be.
func forEach(tx *bolt.Tx, name string, f func(key, value []byte) error) error {
	if b := tx.Bucket([]byte(name)); b != nil {
		return b.ForEach(f)
	}
	return nil
}

// bucketOf returns a bucket for changes. Those of the history are made when they are needed.
func bucketOf(tx *bolt.Tx, name string) (b *bolt.Bucket, err error) {
	if b = tx.Bucket([]byte(name)); b == nil {
		b, err = tx.CreateBucket([]byte(name))
	}
	if err == nil && name == bucketHistory {
		b.FillPercent = 0.9 // keys only rise
	}
	return b, err
}

// inPlace returns an error unless the file is the one at its path. Otherwise writes would be lost,
// and a server that opens the path would give out the same names again.
func (d *disk) inPlace() error {
	there, err := os.Stat(d.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil // a directory that cannot be searched any more does no harm
	}
	if err != nil || !os.SameFile(there, d.self) {
		return errors.New("the file was moved, deleted or replaced while in use: " +
			"put it back, or restart")
	}
	return nil
}

// recover finds out whether the failed transaction was committed, makes that durable, and returns
// the state.
//
// After a failed write the last meta page may be in the kernel's memory, where bbolt sees it, but
// not on the disk. A later fsync that succeeds does not mend one that has failed, because the
// kernel may have dropped the page. A next transaction would then overwrite pages of the one that
// a crash would bring back. So recover writes the meta page again, as it reads it, and syncs it.
// The pages that it refers to were synced before it was first written.
func (d *disk) recover() (w *state, committed bool, err error) {
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
	committed = txid != d.txid
	d.txid = txid
	return w, committed, nil
}

// admit checks the file, which has not been written since it was opened, and returns its state. The
// process that had it before may have died at any instant, so its last transaction is made durable
// before it is shown.
func (d *disk) admit() (w *state, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if d.lost != nil {
			err = d.damaged(err)
		}
	}()
	defer d.caught(&err)
	if d.self, err = d.file.Stat(); err == nil {
		err = syncDir(filepath.Dir(d.path)) // the process that made the file may have died before
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

// recognise returns an error for a sound bbolt file that is not a store this version can use.
func (d *disk) recognise(tx *bolt.Tx) error {
	b := tx.Bucket([]byte(bucketStore))
	if b == nil {
		return d.foreign(errors.New("it is a bbolt file of another program"))
	}
	format, err := strconv.Atoi(string(b.Get([]byte(keyFormat))))
	switch {
	case err != nil || format < 1:
		return d.damaged(errors.New("its format is missing"))
	case format > formatVersion:
		return fmt.Errorf("relukko: store %s: it has format %d, which a later version of relukko "+
			"has written; this version knows format %d. Use the later version, or another file",
			d.path, format, formatVersion)
	}
	return nil
}

// load reads everything. The state is that of the transaction txid.
func (d *disk) load() (w *state, txid uint64, err error) {
	w = newState()
	err = d.db.View(func(tx *bolt.Tx) error {
		txid = uint64(tx.ID())
		b, locks := tx.Bucket([]byte(bucketStore)), tx.Bucket([]byte(bucketLocks))
		marks := tx.Bucket([]byte(bucketMarks))
		if b == nil || locks == nil || marks == nil {
			return errors.New("a part is missing")
		}
		s, err := decodeSummary(b.Get([]byte(keyState)))
		if err != nil {
			return fmt.Errorf("summary: %w", err)
		}
		w.Token, w.Cancelled.Last = s.token, s.number
		if err := locks.ForEach(w.loadLock); err != nil {
			return err
		}
		if err := marks.ForEach(w.loadMark); err != nil {
			return err
		}
		if err := forEach(tx, bucketHistory, w.loadEnded); err != nil {
			return err
		}
		if err := forEach(tx, bucketRecent, w.loadRecent); err != nil {
			return err
		}
		switch found := w.summary(); {
		case found.nLocks != s.nLocks || found.nMarks != s.nMarks:
			return fmt.Errorf("there are %d locks and %d marks, where %d and %d should be",
				found.nLocks, found.nMarks, s.nLocks, s.nMarks)
		case found.nEnded != s.nEnded:
			return fmt.Errorf("the history has %d entries, where %d should be",
				found.nEnded, s.nEnded)
		case found.sum != s.sum:
			return fmt.Errorf("the sum over all %d locks and %d marks is wrong", s.nLocks, s.nMarks)
		}
		return nil
	})
	return w, txid, err
}

// affirm makes the meta page of the transaction txid durable.
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

// abandon closes the file without bbolt. Its memory map stays, which alone would keep the file
// locked.
func (d *disk) abandon() error { return errors.Join(unlock(d.file), d.file.Close()) }

// caught turns a panic into an error: bbolt's own, or a fault of the disk under its memory map.
// Bbolt may still hold its locks then, so it is not called again.
func (d *disk) caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%v", p)
		d.lost = fmt.Errorf("%v; restart to use it again", p)
	}
}
