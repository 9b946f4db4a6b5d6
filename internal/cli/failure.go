package cli

import "fmt"

// Exit statuses: those of sysexits.h where it has a fitting one. relukko run
// also passes on the status of its command, which can be any of these.
const (
	statusFailed      = 1   // none of those below
	statusUsage       = 64  // EX_USAGE: a wrong command line
	statusUnavailable = 69  // EX_UNAVAILABLE: the backend refuses or cannot be reached
	statusNotAcquired = 75  // EX_TEMPFAIL: not acquired in time
	statusLost        = 76  // EX_PROTOCOL: a lock was lost
	statusHeldTooLong = 77  // EX_NOPERM: a lock was held for longer than --max-hold
	statusCannotRun   = 126 // as shells: the command is there but cannot be run
	statusNotFound    = 127 // as shells: there is no such command
)

// failure is the end of a command that did not succeed: its exit status and what
// to print about it.
type failure struct {
	status int
	text   string // what happened; nothing is printed where it is ""
	advice string // what to do about it; may be ""
}

func (f *failure) Error() string {
	if f.advice == "" {
		return f.text
	}
	return f.text + ". " + f.advice
}

func usage(format string, args ...any) *failure {
	return &failure{status: statusUsage, text: fmt.Sprintf(format, args...)}
}

func failed(format string, args ...any) *failure {
	return &failure{status: statusFailed, text: fmt.Sprintf(format, args...)}
}
