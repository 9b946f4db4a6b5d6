package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 15 * time.Second
)

// process is a server's process. It is a child of one of our own processes, the
// keeper, which ends it when this process ends, however that happens.
type process struct {
	keeper *exec.Cmd
	line   io.Closer // to the keeper; when it breaks, the server is ended
	lines  chan string
}

// command is a process to be started.
type command struct {
	args  []string
	env   []string       // in addition to our own
	stop  syscall.Signal // that ends it in an orderly way
	owner *account       // that runs it; nil: the current user
	ready string         // part of the line that it prints when it is ready
}

// account is a user of the system.
type account struct{ uid, gid int }

// start starts a process and returns its line with ready in it.
func start(c command) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	owner := c.owner
	if owner == nil {
		owner = &account{-1, -1}
	}
	keep := append([]string{roleKeep, strconv.Itoa(int(c.stop)), strconv.Itoa(owner.uid),
		strconv.Itoa(owner.gid)}, c.args...)
	p := &process{keeper: exec.Command(self, keep...), lines: make(chan string, 1)}
	p.keeper.Env = append(os.Environ(), c.env...)
	// The terminal's signals do not reach it.
	p.keeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.line, err = p.keeper.StdinPipe(); err != nil {
		return nil, "", err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, "", err
	}
	p.keeper.Stdout, p.keeper.Stderr = w, w
	err = p.keeper.Start()
	w.Close()
	if err != nil {
		r.Close()
		return nil, "", err
	}
	go p.read(r, c.ready)

	select {
	case line, ok := <-p.lines:
		if ok && strings.Contains(line, c.ready) {
			return p, line, nil
		}
		return nil, "", errors.Join(fmt.Errorf("%s ends at once: %s", c.args[0], line), p.stop())
	case <-time.After(startTimeout):
		return nil, "", errors.Join(
			fmt.Errorf("%s is not ready after %v", c.args[0], startTimeout), p.stop())
	}
}

// read passes on the first line with ready in it, or the last lines where there is none.
func (p *process) read(out io.ReadCloser, ready string) {
	defer close(p.lines)
	defer out.Close()
	var last []string
	passed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if passed {
			continue
		}
		if strings.Contains(lines.Text(), ready) {
			p.lines <- lines.Text()
			passed = true
		}
		last = append(last, lines.Text())[max(0, len(last)-9):]
	}
	if !passed {
		p.lines <- strings.Join(last, "\n")
	}
}

// stop ends the process and returns when it has ended.
func (p *process) stop() error {
	p.line.Close()
	patience := time.AfterFunc(stopTimeout+5*time.Second, func() { p.keeper.Process.Kill() })
	defer patience.Stop()
	if err := p.keeper.Wait(); err != nil {
		return fmt.Errorf("%v: %w", p.keeper.Args[5:], err)
	}
	return nil
}

// keep is main of the keeper: it runs a command until its standard input ends.
func keep(args []string) error {
	if len(args) < 4 {
		return errors.New("usage: keep SIGNAL UID GID COMMAND…")
	}
	var numbers [3]int
	for i := range numbers {
		n, err := strconv.Atoi(args[i])
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	stop, uid, gid := syscall.Signal(numbers[0]), numbers[1], numbers[2]
	signal.Ignore(syscall.SIGPIPE)
	cmd := exec.Command(args[3], args[4:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if uid >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid),
			Gid: uint32(gid)}}
		cmd.Dir = "/"
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	abandoned := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(abandoned)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("%s ended by itself: %v", args[3], err)
	case <-abandoned:
	}
	if err := cmd.Process.Signal(stop); err != nil {
		return err
	}
	select {
	case <-ended: // its status does not matter: it was told to end
		return nil
	case <-time.After(stopTimeout):
		cmd.Process.Kill()
		<-ended
		return fmt.Errorf("%s did not end within %v", args[3], stopTimeout)
	}
}
