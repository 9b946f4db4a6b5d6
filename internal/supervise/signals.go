package supervise

import (
	"os"
	"os/signal"
	"syscall"
)

// Notify catches signals, except those that were ignored when the program
// started (by nohup, or & in a script): these stay ignored, also by what the
// program starts. Go knows this of SIGINT and SIGHUP only; it catches others.
func Notify(signals ...os.Signal) chan os.Signal {
	c := make(chan os.Signal, 64)
	for _, s := range signals {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	return c
}

// StatusOf returns the exit status of a program that a signal ended: 128+n, as
// shells have it.
func StatusOf(s os.Signal) int {
	n, ok := s.(syscall.Signal)
	if !ok {
		return 1
	}
	return 128 + int(n)
}
