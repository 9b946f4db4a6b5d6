package main

import "context"

const (
	ownerClients    = 4
	ownersPerClient = 4
)

// measureOwners lets 16 goroutines over 4 clients compete, each with a Mutex of its
// own, so that every change of owner goes through the server.
func measureOwners(ctx context.Context, m *measurement) (figures, error) {
	var lockers []locker
	for range ownerClients {
		c, err := m.connect(ctx, false)
		if err != nil {
			return nil, err
		}
		for range ownersPerClient {
			l, err := c.lockers(ctx, m.lock, 1)
			if err != nil {
				return nil, err
			}
			lockers = append(lockers, l...)
		}
	}
	got, err := contend(ctx, m, m.section, lockers)
	if err != nil {
		return nil, err
	}
	return figures{
		changes: got.changes, spread: got.spread,
		late: millis(got.late), longest: millis(got.longest),
	}, nil
}
