package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	superuser = "postgres" // in the database, whatever the system's user
	ready     = "database system is ready to accept connections"
	logLines  = 50               // of the log that an error carries
	maxWait   = 30 * time.Second // for PostgreSQL to start, to stop, to create a database
)

// manner is how a server is ended: the signal for it.
type manner = syscall.Signal

const (
	fast      = syscall.SIGINT
	immediate = syscall.SIGKILL
)

// process is a running server.
type process struct {
	cmd   *exec.Cmd
	guard *guard
	up    chan struct{} // closed when it accepts connections
	ended chan struct{} // closed when neither it nor any process that it started runs any more
	log   []string      // the last lines; complete once ended is closed
}

// data returns the data directory in the cluster's folder.
func data(dir string) string { return filepath.Join(dir, "data") }

// initdb creates the data directory.
func initdb(bin, dir string) error {
	owner, err := runAs(dir)
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"),
		"--pgdata="+data(dir), "--username="+superuser,
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir, cmd.SysProcAttr = dir, owner
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb fails: %w\n%s", err, out)
	}
	return nil
}

// start starts a server and returns when it accepts connections.
func start(bin, dir string, settings []string) (*process, error) {
	owner, err := runAs(dir)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &process{up: make(chan struct{}), ended: make(chan struct{})}
	p.cmd = exec.Command(filepath.Join(bin, "postgres"),
		append([]string{"-D", data(dir)}, settings...)...)
	p.cmd.Dir, p.cmd.SysProcAttr = dir, owner
	p.cmd.Stderr = w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	p.guard = watchOver(p.cmd.Process.Pid, dir)
	go p.read(r)

	patience := time.NewTimer(maxWait)
	defer patience.Stop()
	select {
	case <-p.up:
		return p, nil
	case <-p.ended:
		err = errors.New("it ended at once")
	case <-patience.C:
		err = fmt.Errorf("it is not ready after %v", maxWait)
	}
	return nil, errors.Join(err, p.stop(immediate), errors.New(strings.Join(p.log, "\n")))
}

// read reads the log until the last process that could write to it has ended.
func (p *process) read(log io.ReadCloser) {
	defer close(p.ended)
	defer log.Close()
	up := p.up
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if len(p.log) == logLines {
			p.log = p.log[1:]
		}
		p.log = append(p.log, lines.Text())
		if up != nil && strings.HasSuffix(lines.Text(), ready) {
			close(up)
			up = nil
		}
	}
}

// stop ends the server and returns when all of its processes have ended.
func (p *process) stop(how manner) error {
	defer p.guard.dismiss()
	if err := p.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("pgtest: PostgreSQL does not stop: %w", err)
	}
	patience := time.AfterFunc(maxWait, func() { p.cmd.Process.Kill() })
	defer patience.Stop()
	_ = p.cmd.Wait() // its status says only how it was ended
	select {
	case <-p.ended:
		return nil
	case <-time.After(maxWait):
		return errors.New("pgtest: PostgreSQL does not stop: some of its processes still run")
	}
}

// guard ends the server and deletes its folder if this process ends without having done so.
type guard struct {
	cmd  *exec.Cmd
	line io.WriteCloser // breaks when this process ends
}

// watchOver returns nil where there is no shell: then nothing cleans up after a killed test.
func watchOver(pid int, dir string) *guard {
	const script = `read -r line
		[ "$line" = dismissed ] || { kill -QUIT "$0"; sleep 2; rm -rf "$1"; }`
	cmd := exec.Command("sh", "-c", script, fmt.Sprint(pid), dir)
	cmd.SysProcAttr = aside()
	line, err := cmd.StdinPipe()
	if err != nil {
		return nil
	}
	if cmd.Start() != nil {
		return nil
	}
	return &guard{cmd, line}
}

func (g *guard) dismiss() {
	if g == nil {
		return
	}
	_, _ = io.WriteString(g.line, "dismissed\n") // fails if it has ended already
	_ = g.cmd.Wait()
}
