package main

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

// dieWithParent has the child killed when this process dies, however it does.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// adoptOrphans makes us the parent of whoever of the child's descendants loses
// his own, so that none stays in the group as a zombie where the system's init
// does not care (in containers, mostly), and so that strays are found. It
// reports whether all our children from now on come from the child: who called
// exec to become us may have had some already. On failure it is as without.
func adoptOrphans() (alone bool) {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil && len(childrenOf(os.Getpid())) == 0
}

// strays are those of our descendants who have left the group but not the
// session, as the jobs of an interactive shell do. There are none where the
// system does not tell whose child is whose.
func strays(group int) []int {
	session, err := unix.Getsid(0)
	if err != nil {
		return nil
	}
	var found []int
	for todo := childrenOf(os.Getpid()); len(todo) > 0; todo = todo[1:] {
		pid := todo[0]
		todo = append(todo, childrenOf(pid)...)
		theirs, err := unix.Getsid(pid)
		if g, gerr := unix.Getpgid(pid); err == nil && gerr == nil && theirs == session && g != group {
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

// stopSelf has this process do by default what sig asks for, which is to stop,
// and returns when it goes on. Package signal does not give back the default of a
// signal that was once caught, so the system is asked for it. Only where it
// refuses, SIGTTIN, which is never caught, takes the place of sig.
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

// sigaction has room for what any kernel keeps of a signal; all zero it is the
// default. Nobody looks into it.
type sigaction [16]uint64

func sigactionOf(sig syscall.Signal, set, old *sigaction) bool {
	const maskSize = 8 // of all systems but MIPS, which refuses it
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), maskSize, 0, 0)
	return errno == 0
}
