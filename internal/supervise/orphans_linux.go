package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	getTermios = unix.TCGETS
	setTermios = unix.TCSETS
)

// dieWithParent has the child killed when this process dies for any reason.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// adoptOrphans makes this process the parent of descendants that lose their own,
// so that detached finds them, and so that none stays in the group as a zombie
// where the system's init does not reap (in containers, mostly). It reports
// whether all our children from now on come from the child that is started next:
// a program that became us by exec may have had some.
func adoptOrphans() (alone bool) {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil &&
		len(childrenOf(os.Getpid())) == 0
}

// detached returns our descendants that have left the group but not the session,
// as the jobs of an interactive shell do. It finds none where /proc does not list
// children.
func detached(group int) []int {
	session, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	var found []int
	for todo := childrenOf(os.Getpid()); len(todo) > 0; todo = todo[1:] {
		pid := todo[0]
		todo = append(todo, childrenOf(pid)...)
		s, err := unix.Getsid(pid)
		if g, gerr := unix.Getpgid(pid); err == nil && gerr == nil && s == session && g != group {
			found = append(found, pid)
		}
	}
	return found
}

func childrenOf(pid int) []int {
	var pids []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list) // the thread may have ended
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// stopSelf stops this process by the default of sig and returns when it is
// continued. Package signal does not restore the default of a signal that was
// caught once, so the system is asked for it. Only where that fails, SIGTTIN,
// which is never caught, takes the place of sig.
func stopSelf(sig syscall.Signal) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var byDefault, ours sigaction
	if sigactionOf(sig, &byDefault, &ours) {
		defer sigactionOf(sig, &ours, nil)
	} else {
		sig = syscall.SIGTTIN
	}
	_ = syscall.Tgkill(os.Getpid(), syscall.Gettid(), sig)
}

// ignored reports whether a signal is ignored. Package signal knows that of SIGINT
// and SIGHUP only.
func ignored(sig syscall.Signal) bool {
	const ignore = 1
	var now sigaction
	handler := (*uintptr)(unsafe.Pointer(&now)) // but on MIPS, which refuses
	return sigactionOf(sig, nil, &now) && *handler == ignore
}

// stopForTerminal restores the default of SIGTTIN and SIGTTOU, which a child
// inherits, until undo is called. A shell ignores them in $(…): reading from the
// terminal would fail instead of stopping the child, which then gets the terminal.
func stopForTerminal() (undo func()) {
	signals := [...]syscall.Signal{syscall.SIGTTIN, syscall.SIGTTOU}
	var before [len(signals)]sigaction
	for i, sig := range signals {
		sigactionOf(sig, new(sigaction), &before[i])
	}
	return func() {
		for i, sig := range signals {
			sigactionOf(sig, &before[i], nil)
		}
	}
}

// sigaction is large enough for what any kernel keeps of a signal. All zero it is
// the default.
type sigaction [16]uint64

func sigactionOf(sig syscall.Signal, set, old *sigaction) bool {
	const maskSize = 8 // of all systems but MIPS, which refuses it
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), maskSize, 0, 0)
	return errno == 0
}
