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
	store string   // "memory" or "disk": what an acquired lock stands on
	notes []string // what a reader must know to be fair; printed under the table
	only  []string // the scenarios that it takes part in; nil: all
	start func(*site) (service, error)
}

// peers are the rows of the table. Each is set up as its own documentation
// advises; the files peer_*.go say how, and why.
var peers = []peer{
	relukkoMemory, relukkoBolt, relukkoPostgres, relukkoPlain, bareRelukko,
	advisory, etcd, rueidisLock, redSync, redisLock,
	absent("consul", "api.Lock of consul: its server is not started here"),
	absent("pglock", "cirello.io/pglock: not among the measured"),
	absent("dynamolock", "cirello.io/dynamolock: it needs DynamoDB"),
}

// service is a server that runs, in processes of its own, and the library to
// reach it.
type service interface {
	// connect makes a client. Where counted is set, what it asks of the server
	// is counted by requests, even if that takes a longer way.
	connect(ctx context.Context, counted bool) (client, error)

	// requests answers how many requests the server has had so far from clients.
	requests(ctx context.Context) (float64, error)

	// version answers what is measured: the library, the server.
	version() string

	// close leaves nothing of it running.
	close() error
}

// client is what one process has of a service: its connections, its session.
type client interface {
	// lockers answers what n goroutines of the process use to lock name, in the
	// way that the library's documentation says.
	lockers(ctx context.Context, name string, n int) ([]locker, error)
	close() error
}

// locker is a lock in the hands of one goroutine.
type locker interface {
	lock(ctx context.Context) error
	unlock() error
}

// absentError says why a peer cannot be measured here, which is no failure.
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

// each makes n lockers, one after the other.
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
