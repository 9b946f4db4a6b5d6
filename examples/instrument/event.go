package main

import (
	"fmt"
	"time"
)

const (
	processes  = 3
	goroutines = 4 // in each process
)

// event is what happened to one goroutine of a worker process.
type event struct {
	At   time.Time
	Kind eventKind
	Who  string // "2c"

	// holding
	Lock string `json:",omitempty"` // its id
	Long bool   `json:",omitempty"` // for a long measurement

	// result
	Volts, Read float64
	Wrong       bool   `json:",omitempty"`
	Lost        string `json:",omitempty"` // how the lock was lost; the result is void then
}

type eventKind string

const (
	waiting eventKind = "waiting" // for the lock
	holding eventKind = "holding" // the lock, or at work without one
	done    eventKind = "done"    // with the instrument, about to unlock
	result  eventKind = "result"
	deleted eventKind = "deleted" // its lock was deleted, or (Lost) could not be
)

// nameOf returns "2c" for the third goroutine of process 2.
func nameOf(process, goroutine int) string { return fmt.Sprintf("%d%c", process, 'a'+goroutine) }
