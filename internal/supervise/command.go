// Package supervise runs a command as if it were run directly: it passes on the
// terminal, signals and job control. It ends the command, and what the command
// has started, when its permit is revoked.
package supervise

import (
	"os"
	"time"
)

// Command is a command to run. It inherits stdin, stdout and stderr.
type Command struct {
	Path string   // of the executable
	Args []string // Args[0] is the name of the command
	Env  []string

	Permit    Permit
	KillAfter time.Duration // time to end after SIGTERM, before SIGKILL

	// Extra has signals for the command that do not come from the system; nil: there are none.
	Extra <-chan os.Signal

	// OnStop is called before this process is stopped along with the command,
	// if its process group has the terminal.
	OnStop func()
	// OnUndelivered is called when a signal could not be delivered to the command,
	// as to one that runs as another user.
	OnUndelivered func(os.Signal, error)
}

// Permit says how long a command may run.
type Permit interface {
	// Revoked returns a channel that is closed when the command must end.
	Revoked() <-chan struct{}
	// Valid reports whether the permit has not been revoked, by a look at the
	// clocks: after this process was stopped, its timers fire late.
	Valid() bool
	// Left returns how long a revoked permit tolerates the command. Nothing of
	// it is left by then.
	Left() time.Duration
}

// Result says how a command ended.
type Result struct {
	Status      int  // its exit status; 128+n where signal n ended it
	Interrupted bool // Ctrl-C ended it
	Revoked     bool // the permit was revoked while it ran

	// Remaining is the reason why some of it still runs; nil where it does not.
	Remaining error
}
