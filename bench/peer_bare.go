package main

import (
	"context"
)

// bareRelukko uses our server with nothing but net/http: the floor for Relukko.
// It renews nothing, notices no loss, and a broken request leaves its lock held.
var bareRelukko = peer{
	name: "bare", label: "bare POST+DELETE with net/http on Relukko, memory", store: "memory",
	only: []string{"uncontended", "handoff", "owners", "herd"},
	notes: []string{"It is no lock to work with, only the floor: it is not renewed, a loss is " +
		"not noticed, and a broken request leaves its lock held."},
	start: func(s *site) (service, error) {
		r, err := startRelukko(s, "memory", anyPort)
		return &bareService{r}, err
	},
}

type bareService struct{ *relukkoService }

func (s *bareService) connect(context.Context, bool) (client, error) {
	return &bareClients{service: s.relukkoService}, nil
}

type bareClients struct {
	service *relukkoService
	made    []*bareClient
}

func (c *bareClients) lockers(_ context.Context, name string, n int) ([]locker, error) {
	b := c.service.bare(name)
	b.prefer = "wait=30"
	c.made = append(c.made, b)
	return each(n, func() (locker, error) { return &bareLocker{client: b}, nil })
}

func (c *bareClients) close() error {
	for _, b := range c.made {
		b.close()
	}
	return nil
}

// bareLocker is one goroutine's.
type bareLocker struct {
	client *bareClient
	held   string // the id
}

func (l *bareLocker) lock(ctx context.Context) (err error) {
	l.held, err = l.client.create(ctx)
	return err
}

func (l *bareLocker) unlock() error { return l.client.remove(context.Background(), l.held) }
