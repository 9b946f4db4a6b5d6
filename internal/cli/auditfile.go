package cli

import (
	"log/slog"
	"os"
	"sync"
)

// auditFile is the file of relukko serve --audit-log, to which lines are appended.
type auditFile struct {
	path string
	log  *slog.Logger // what could not be written is logged here

	mu   sync.Mutex
	file *os.File
	cut  bool // the last line could be written in part only
}

// newAuditLog returns the audit log of a server, and the file that it is written to, which files
// opens again on SIGHUP; nil and nil without a path: then the log is used.
func newAuditLog(path string, files *reloader) (*slog.Logger, *auditFile, error) {
	if path == "" {
		return nil, nil, nil
	}
	a := &auditFile{path: path, log: files.log}
	if err := files.add("audit log", a.open); err != nil {
		return nil, nil, usage("--audit-log: %s", plain(err))
	}
	return slog.New(slog.NewJSONHandler(a, nil)), a, nil
}

// open opens the file, and closes the one that was open before.
func (a *auditFile) open() error {
	file, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		a.file.Close()
	}
	a.file = file
	return nil
}

// Write writes one line.
func (a *auditFile) Write(line []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cut { // a line of its own, for those that read line by line
		_, err := a.file.Write([]byte("\n"))
		a.cut = err != nil
	}
	n, err := a.file.Write(line)
	if err != nil {
		a.cut = a.cut || n > 0
		a.log.Error("cannot write to the audit log", "line", string(line), "error", err)
	}
	return n, err
}

// Close closes the file; nil is none.
func (a *auditFile) Close() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.file.Close()
}
