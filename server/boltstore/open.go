package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// lockWait is how long Open waits for another process to close the file, such as a server that is
// being restarted.
const lockWait = 700 * time.Millisecond

// Option sets up a Store.
type Option func(*config)

type config struct {
	log  *slog.Logger
	now  func() time.Time
	link func(old, new string) error
}

// WithLogger makes the store log to l: at error when its file cannot be written any more, at info
// when it can again. By default it is silent.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.log = l }
}

// Open opens the store in the file at path. Where there is nothing it makes the file (0600) and its
// directory (0700). It returns an error, and leaves the file as it is, when
//   - another process has it open, after waiting for less than a second;
//   - it is not a store, or one of a later version;
//   - it is damaged: every page, lock and mark is checked;
//   - it is empty, for an empty file may be one that has lost its content.
func Open(path string, opts ...Option) (*Store, error) {
	c := config{log: slog.New(slog.DiscardHandler), now: time.Now, link: os.Link}
	for _, o := range opts {
		o(&c)
	}
	path, err := filepath.Abs(path) // the working directory may change
	if err != nil {
		return nil, fmt.Errorf("relukko: store: %w", err)
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.createFile(path); err == nil {
			info, err = os.Stat(path)
		}
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("relukko: store %s: %w", path, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("relukko: store %s: it is not a file", path)
	case info.Size() == 0:
		return nil, fmt.Errorf("relukko: store %s: it is empty, and may be a store that has lost "+
			"its content: restore it from a backup, or delete it to start without any locks", path)
	}
	d, err := openDisk(path)
	if err != nil {
		return nil, err
	}
	w, err := d.admit()
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return start(c, d, w), nil
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
		"It was left as it is: restore it from a backup, or move it away to start without any locks", d.path, err)
}
