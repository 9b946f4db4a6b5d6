package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// disk is the file, which bbolt reads and writes.
//
// A write is a record of the log, and one fdatasync; or it is a checkpoint: a bbolt transaction
// writes its pages to places that no earlier transaction uses and syncs them, then writes the meta
// page that makes them valid and syncs that. Odd and even transactions have separate meta pages, so
// a torn one costs only the last transaction, which was never acknowledged.
type disk struct {
	path    string
	logSize int // of a log that is made
	db      *bolt.DB
	file    *os.File    // the one that db uses
	self    os.FileInfo // identifies file
	wal     *wal
	lost    error // why db must not be used any more

	txid     uint64       // of the transaction that was seen last
	used     atomic.Int64 // size of what bbolt uses of the file
	reserved int64        // size of what has a place on the disk
	space    int64        // size of what the next checkpoint can have for certain; see reserve
	tried    time.Time    // when reserve was called last

	writeAt func(page []byte, at int64) (int, error) // of file
	sync    func() error
}

// openDisk opens the file for this process alone. It writes nothing.
func openDisk(path string, logSize int) (_ *disk, err error) {
	d := &disk{path: path, logSize: logSize}
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
		d.writeAt, d.sync = d.file.WriteAt, d.db.Sync
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

// write makes the state's changes durable, all or nothing. After an error the outcome is unknown,
// and recover must succeed before the next write.
func (d *disk) write(w *state, now time.Time) (err error) {
	if d.lost != nil {
		return d.lost
	}
	if err := d.inPlace(); err != nil {
		return err
	}
	defer d.caught(&err)
	if d.reserved == 0 {
		d.reserve()
	}
	// A change goes to the log only if the next checkpoint is certain to have the space for it. Of
	// that, creates leave some to renewals and releases, which go on when the disk is full.
	space := d.space
	if w.created {
		space -= d.kept()
	}
	if d.wal.cost+d.wal.costOf(w.changes) <= space && !w.pruneDue(now) {
		if record := d.wal.record(w.changes, w.summary()); record != nil {
			return d.appendRecord(record, w.changes)
		}
	}
	return d.checkpoint(w, now)
}

func (d *disk) appendRecord(record []byte, changes []change) error {
	if _, err := d.writeAt(record, d.wal.at+d.wal.next); err != nil {
		return err
	}
	if err := d.sync(); err != nil {
		return err
	}
	d.wal.appended(record, changes)
	return nil
}

// checkpoint makes the changes of the log, and those of the state, in a transaction.
func (d *disk) checkpoint(w *state, now time.Time) error {
	err := d.db.Update(func(tx *bolt.Tx) error {
		if err := apply(tx, latest(append(d.wal.pending, w.changes...))); err != nil {
			return err
		}
		if err := d.upgrade(tx, w); err != nil {
			return err
		}
		if err := w.prune(tx, now); err != nil {
			return err
		}
		return putSummary(tx, w.summary(), d.wal.base.epoch)
	})
	if err != nil {
		return err
	}
	w.recent = nil
	return d.db.View(func(tx *bolt.Tx) (err error) {
		if d.wal, err = findLog(tx); err == nil {
			d.txid = uint64(tx.ID())
			d.used.Store(tx.Size())
			d.reserve()
		}
		return err
	})
}

// reserve finds out how much space the next checkpoint can have for certain, and makes the file
// longer if it is not much.
func (d *disk) reserve() {
	d.tried = time.Now()
	stats, used := d.db.Stats(), d.used.Load()
	d.reserved = max(d.reserved, used)
	d.space = int64(stats.FreePageN+stats.PendingPageN)*d.wal.page + d.reserved - used
	d.space -= 64*d.wal.page + used/64 // for the pages that lead to those of the changes
	if missing := 3*d.kept() - d.space; missing > d.kept() {
		n, _ := d.file.WriteAt(make([]byte, missing), d.reserved) // less if the disk is full
		got := int64(n) / d.wal.page * d.wal.page
		d.reserved, d.space = d.reserved+got, d.space+got
	}
}

// kept returns how much of the space is not for creates.
func (d *disk) kept() int64 { return int64(d.logSize) }

// full reports whether there is no space for creates. It tries to get some, once a second.
func (d *disk) full() bool {
	if d.reserved == 0 || d.space < d.kept() && time.Since(d.tried) > time.Second {
		d.reserve()
	}
	return d.space < d.kept()
}

// apply makes the changes in a transaction.
func apply(tx *bolt.Tx, changes []change) error {
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
	return nil
}

// upgrade moves what format 3 had in bucketRecent, and makes the log once there is the space for
// it.
func (d *disk) upgrade(tx *bolt.Tx, w *state) error {
	if tx.Bucket([]byte(bucketRecent)) != nil {
		if err := apply(tx, w.recent); err != nil {
			return err
		}
		if err := tx.DeleteBucket([]byte(bucketRecent)); err != nil {
			return err
		}
	}
	if d.reserved-d.used.Load() < int64(d.logSize)+64*d.wal.page {
		return nil
	}
	return createLog(tx, d.logSize)
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

// inPlace returns an error unless the file is the one at its path, and has its size. Otherwise
// writes would be lost, and a server that opens the path would give out the same names again.
func (d *disk) inPlace() error {
	there, err := os.Stat(d.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil // a directory that cannot be searched any more does no harm
	}
	if err != nil || !os.SameFile(there, d.self) {
		return errors.New("the file was moved, deleted or replaced while in use: " +
			"put it back, or restart")
	}
	if there.Size() < d.used.Load() {
		return errors.New("the file was cut short while in use: restore it from a backup")
	}
	return nil
}

// recover finds out what became of the failed write, makes that durable, and returns the state.
//
// After a failed write the last meta page or the last record may be in the kernel's memory, where
// it is read, but not on the disk. A later fsync that succeeds does not mend one that has failed,
// because the kernel may have dropped the page. A next transaction would then overwrite pages of
// the one that a crash would bring back. So recover writes both again, as it reads them, and syncs
// them. The pages to which a meta page refers were synced before it was first written.
func (d *disk) recover() (w *state, err error) {
	if d.lost != nil {
		return nil, d.lost
	}
	defer d.caught(&err)
	w, txid, err := d.load()
	if err == nil {
		err = d.affirm(txid)
	}
	if err != nil {
		return nil, err
	}
	return w, nil
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

// load reads everything, and writes nothing. The state is that of the transaction txid and the log.
func (d *disk) load() (w *state, txid uint64, err error) {
	tx, err := d.db.Begin(true)
	if err != nil {
		return nil, 0, err
	}
	defer tx.Rollback()
	l, err := findLog(tx)
	if err != nil {
		return nil, 0, err
	}
	if err := l.read(d.file); err != nil {
		return nil, 0, err
	}
	if err := apply(tx, l.pending); err != nil {
		return nil, 0, err
	}
	w = newState()
	if err := w.load(tx); err != nil {
		return nil, 0, err
	}
	for _, c := range l.pending {
		if c.bucket == bucketHistory {
			w.recent = append(w.recent, c)
		}
	}
	txid = uint64(tx.ID()) - 1
	if txid < d.txid {
		// Bbolt has seen the later one, and has its list of free pages.
		d.lost = errors.New("the disk has lost a page that was written; restart to use it again")
		return nil, 0, d.lost
	}
	d.wal, d.txid, d.reserved = l, txid, 0
	d.used.Store(tx.Size())
	return w, txid, nil
}

// affirm makes the meta page of the transaction txid durable, and the last record of the log.
func (d *disk) affirm(txid uint64) error {
	page := make([]byte, d.wal.page)
	at := int64(txid%2) * d.wal.page
	if _, err := d.file.ReadAt(page, at); err != nil {
		return err
	}
	if _, err := d.writeAt(page, at); err != nil {
		return err
	}
	if last := d.wal.last; last != nil {
		if _, err := d.writeAt(last, d.wal.at+d.wal.next-int64(len(last))); err != nil {
			return err
		}
	}
	return d.sync()
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
