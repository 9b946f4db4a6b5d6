package relukko_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// exampleClient returns a client of a backend in this process. In your program, use api.FromEnv.
func exampleClient() (*api.Client, func()) {
	backend := server.New(memstore.New(), server.WithAPIKeys("secret"))
	listener := httptest.NewServer(backend)
	client, err := api.New(listener.URL, "secret")
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		client.Shutdown(context.Background())
		backend.Shutdown(context.Background())
		listener.Close()
	}
}

func ExampleMutex() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	arm := relukko.NewMutex(client, "robot-arm-1")

	held, err := arm.Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// Use held for the work: it is done as soon as the lock is lost.
	fmt.Println("inside:", held.Err() == nil)

	if err := arm.Unlock(held); err != nil {
		log.Fatal(err)
	}
	fmt.Println("after:", context.Cause(held))
	// Output:
	// inside: true
	// after: relukko: the lock was unlocked
}

func ExampleMutex_TryLock() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	slot := relukko.NewMutex(client, "deploy-slot", relukko.WithCreator("pipeline 41"))
	held, err := slot.Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer slot.Unlock(held)

	other := relukko.NewMutex(client, "deploy-slot", relukko.WithCreator("pipeline 42"))
	_, err = other.TryLock(ctx)
	var locked *relukko.LockedError
	if errors.As(err, &locked) {
		age := time.Since(locked.Holder.CreatedAt)
		fmt.Println(locked.Name, "has been taken for", age.Round(time.Minute))
	}
	// Output:
	// deploy-slot has been taken for 0s
}

func ExampleMutex_Do_errgroup() {
	client, end := exampleClient()
	defer end()
	arm := relukko.NewMutex(client, "robot-arm-1")

	parts := 0
	g, ctx := errgroup.WithContext(context.Background())
	for range 4 {
		g.Go(func() error {
			return arm.Do(ctx, func(ctx context.Context) error {
				parts++ // one at a time, on this machine and all others
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(parts, "parts assembled")
	// Output:
	// 4 parts assembled
}

func ExamplePool() {
	client, end := exampleClient()
	defer end()
	benches := relukko.NewPool(client, []string{"bench-1", "bench-2"}, // any one will do
		relukko.WithReason("flash 1.2"), relukko.WithMaxHold(time.Hour))

	err := benches.Do(context.Background(), func(ctx context.Context) error {
		session, _ := relukko.FromContext(ctx)
		fmt.Println("flashing", session.Name())
		return ctx.Err()
	})
	fmt.Println(err)
	// Output:
	// flashing bench-1
	// <nil>
}

// A test that may be interrupted gives way as soon as somebody waits for its bench, and goes on
// later.
func ExampleSession_Wanted() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	soak := relukko.NewMutex(client, "bench-1", relukko.WithPriority(-10))
	held, err := soak.Lock(ctx)
	if err != nil {
		log.Fatal(err)
	}
	user := make(chan error, 1)
	go func() {
		user <- relukko.NewMutex(client, "bench-1").Do(ctx, func(context.Context) error {
			fmt.Println("the user has the bench")
			return nil
		})
	}()

	session, _ := relukko.FromContext(held)
	select {
	case <-session.Wanted():
		fmt.Println("the soak gives way")
	case <-held.Done():
	}
	if err := errors.Join(soak.Unlock(held), <-user); err != nil {
		log.Fatal(err)
	}
	// Output:
	// the soak gives way
	// the user has the bench
}

func ExampleLostError() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	arm := relukko.NewMutex(client, "robot-arm-1", relukko.WithTTL(time.Second))

	err := arm.Do(ctx, func(ctx context.Context) error {
		session, _ := relukko.FromContext(ctx)
		client.Delete(context.Background(), session.Info().ID) // by mistake

		select {
		case <-time.After(time.Minute): // the work
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	var lost *relukko.LostError
	if errors.As(err, &lost) {
		fmt.Printf("stopped: %s was lost (%v)\n", lost.Name, lost.Reason)
	}
	// Output:
	// stopped: robot-arm-1 was lost (deleted)
}

func ExampleMultiMutex() {
	client, end := exampleClient()
	defer end()
	bench := relukko.NewMultiMutex(client, []string{"robot-arm-1", "camera-1"})

	err := bench.Do(context.Background(), func(ctx context.Context) error {
		session, _ := relukko.FromContext(ctx)
		for _, lock := range session.Locks() {
			fmt.Println("held:", lock.Name)
		}
		return ctx.Err() // not nil once one of them is lost
	})
	fmt.Println(err)
	// Output:
	// held: robot-arm-1
	// held: camera-1
	// <nil>
}

func ExampleMutex_Locker() {
	client, end := exampleClient()
	defer end()
	arm := relukko.NewMutex(client, "robot-arm-1", relukko.WithOnLost(func(err *relukko.LostError) {
		log.Print(err) // no context ends
	}))

	cond := sync.NewCond(arm.Locker()) // takes any sync.Locker
	cond.L.Lock()
	fmt.Println("inside")
	cond.L.Unlock()
	// Output:
	// inside
}

// Driver moves the arm only with a context that holds its lock.
type Driver struct{ name string }

func (d *Driver) Move(ctx context.Context, degrees int) error {
	session, ok := relukko.FromContext(ctx)
	if !ok || session.Name() != d.name {
		return fmt.Errorf("moving %s needs its lock", d.name)
	}
	if err := session.Err(); err != nil {
		return err
	}
	fmt.Printf("%s moves by %d°\n", d.name, degrees)
	return ctx.Err()
}

func ExampleFromContext() {
	client, end := exampleClient()
	defer end()
	ctx := context.Background()
	driver := &Driver{"robot-arm-1"}
	fmt.Println(driver.Move(ctx, 90))

	err := relukko.NewMutex(client, "robot-arm-1").Do(ctx, func(ctx context.Context) error {
		return driver.Move(ctx, 90)
	})
	fmt.Println(err)
	// Output:
	// moving robot-arm-1 needs its lock
	// robot-arm-1 moves by 90°
	// <nil>
}

// Cancelled work cleans up inside the critical section, with the session's CleanupContext, which
// does not end with the parent.
func ExampleSession_CleanupContext() {
	client, end := exampleClient()
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	arm := relukko.NewMutex(client, "robot-arm-1")

	err := arm.Do(ctx, func(ctx context.Context) error {
		cancel() // after Ctrl-C, for example
		session, _ := relukko.FromContext(ctx)
		fmt.Println("work:", ctx.Err())
		fmt.Println("cleanup:", session.CleanupContext().Err())
		return ctx.Err()
	})
	fmt.Println(err)
	// Output:
	// work: context canceled
	// cleanup: <nil>
	// context canceled
}
