package main

import (
	"os"
	"os/signal"
	"syscall"
)

// terminating signals ask a program to end.
var terminating = []os.Signal{os.Interrupt, syscall.SIGTERM}

// notify catches signals, but not those that whoever started the program has
// had it ignore (nohup, or & in a script): these stay ignored, also by what the
// program starts. Go tells of SIGINT and SIGHUP only; it takes the others over.
func notify(signals ...os.Signal) chan os.Signal {
	c := make(chan os.Signal, 64)
	for _, s := range signals {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	return c
}

// statusOf is the exit status that shells give to what a signal has ended.
func statusOf(s os.Signal) int {
	n, ok := s.(syscall.Signal)
	if !ok {
		return statusFailed
	}
	return statusSignal + int(n)
}

// brokenPipes has output that nobody reads fail instead of ending the program,
// which may be holding a lock or serve those who do. What the program starts is not concerned.
func brokenPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
