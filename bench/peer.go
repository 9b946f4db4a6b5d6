package main

import (
	"context"
	"fmt"
	"slices"
)

// peer is one lock service with one Go library for it.
type peer struct {
	name  string   // for -only, and in ratios
	label string   // its row
	store string   // "memory" or "disk": what an acquired lock stands on; "": there is none
	notes []string // what a reader must know to be fair; printed under the table
	only  []string // the scenarios that it takes part in; nil: all
	start func(*site) (service, error)
}

// peers are the rows of the table. Each is set up as its own documentation
// advises; the files peer_*.go say how, and why.
var peers = []peer{
	relukkoMemory, relukkoUnix, relukkoBolt, relukkoPostgres, relukkoPlain, bareRelukko,
	echo, advisory, etcd, rueidisLock, redSync, redisLock,
	absent("consul", "api.Lock of consul: its server is not started here"),
	absent("pglock", "cirello.io/pglock: not among the measured"),
	absent("dynamolock", "cirello.io/dynamolock: it needs DynamoDB"),
}

// service is a server that runs, in processes of its own, and the library to
// reach it.
type service interface {
	// connect returns a new client. If counted is set, requests counts what it
	// asks of the server, even if that takes a longer way.
	connect(ctx context.Context, counted bool) (client, error)

	// requests returns how many requests of clients the server has handled so far.
	requests(ctx context.Context) (float64, error)

	// pids returns the processes of the server, at present.
	pids() []int

	// version returns what is measured: the library, the server.
	version() string

	// close ends all of its processes.
	close() error
}

// client is one process's connections to a service, and its session.
type client interface {
	// lockers returns what n goroutines of the process use to lock name,
	// according to the library's documentation.
	lockers(ctx context.Context, name string, n int) ([]locker, error)
	close() error
}

// locker is the lock as one goroutine uses it.
type locker interface {
	lock(ctx context.Context) error
	unlock() error
}

// absentError is the reason why a peer cannot be measured here; it is no failure.
type absentError struct{ why string }

func (e *absentError) Error() string { return e.why }

func absence(format string, args ...any) error { return &absentError{fmt.Sprintf(format, args...)} }

func absent(name, why string) peer {
	return peer{name: name, start: func(*site) (service, error) { return nil, absence("%s", why) }}
}

func (p *peer) takesPart(scenario string) bool {
	return p.only == nil || slices.Contains(p.only, scenario)
}

func names(peers []peer) []string {
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	return names
}

// each calls make n times, one after the other.
func each(n int, make func() (locker, error)) ([]locker, error) {
	var all []locker
	for range n {
		l, err := make()
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}
