package main

import (
	"context"
	"time"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// worker has jobs for which any bench will do.
func (f *floor) worker(ctx context.Context, client *api.Client, name string) error {
	pool := relukko.NewPool(client, f.names(), relukko.WithReason(name))
	for range jobs {
		err := pool.Do(ctx, func(ctx context.Context) error {
			s, _ := relukko.FromContext(ctx)
			return f.use(ctx, s.Name(), name, 400*time.Millisecond)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// user wants the first bench, and soon.
func (f *floor) user(ctx context.Context, client *api.Client) error {
	began := time.Now()
	bench := relukko.NewMutex(client, f.names()[0], relukko.WithPriority(10),
		relukko.WithReason("interactive"))
	return bench.Do(ctx, func(ctx context.Context) error {
		f.userWaited(time.Since(began))
		return f.use(ctx, bench.Name(), "user", time.Second)
	})
}

// soak runs on the first bench until ctx is done, whenever nobody else wants that.
func (f *floor) soak(ctx context.Context, client *api.Client) error {
	bench := relukko.NewMutex(client, f.names()[0], relukko.WithPriority(-10),
		relukko.WithReason("nightly soak"))
	for {
		held, err := bench.Lock(ctx)
		if ctx.Err() != nil && err != nil {
			return nil // the night is over
		}
		if err != nil {
			return err
		}
		s, _ := relukko.FromContext(held)
		given, giveWay := context.WithCancel(held)
		go func() {
			select {
			case <-s.Wanted(): // somebody waits for this bench
				giveWay()
			case <-s.Done():
			}
		}()
		f.use(given, bench.Name(), "soak", time.Hour)
		giveWay()
		if err := bench.Unlock(held); err != nil {
			return err
		}
	}
}

// technician takes the last bench out of service for a while.
func (f *floor) technician(ctx context.Context, client *api.Client) error {
	bench := relukko.NewMutex(client, f.names()[2], relukko.WithPriority(10),
		relukko.WithReason("out of service: a cable is replaced"))
	return bench.Do(ctx, func(ctx context.Context) error {
		return f.use(ctx, bench.Name(), "technician", 2*time.Second)
	})
}
