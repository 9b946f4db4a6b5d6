// Command instrument shows what Relukko is for: many processes share one
// instrument that only one of them can use at a time.
//
//	go run ./examples/instrument
//	go run ./examples/instrument -unguarded
//
// It simulates a bench instrument and starts three processes with four
// goroutines each. All goroutines do the same job in a loop: set a voltage, wait
// until it has settled, read it back. Nothing else may touch the instrument
// between the setting and the reading. One Mutex ensures that, across the
// goroutines of a process and across processes. A timeline shows which goroutine
// has the instrument and which ones wait for it; a verdict follows. Without the
// Mutex (-unguarded) most readings are wrong.
//
// While a lock is held, the program deletes it, as anybody can do by hand. The
// holder learns of that at once, and stops.
//
// By default the backend is part of the program. With -url it is another one,
// on another machine if you like.
//
// Where to look: worker.go does what any program does that uses Relukko.
// driver.go and instrument.go are what it guards: the client of an instrument,
// and the instrument. The rest starts the processes and prints what they do.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

func main() {
	var c config
	flag.BoolVar(&c.unguarded, "unguarded", false, "use the instrument without a lock")
	flag.StringVar(&c.url, "url", "",
		"base `URL` of a Relukko backend; by default one that is part of this program")
	flag.StringVar(&c.key, "key", os.Getenv("RELUKKO_API_KEY"),
		"API `key` for -url; by default that of $RELUKKO_API_KEY")
	flag.DurationVar(&c.duration, "duration", 0,
		"how long to begin new measurements (default 8s, unguarded 3s)")
	number := flag.Int("worker", 0, "used by the program itself: be the worker process `n`")
	instrument := flag.String("instrument", "",
		"used by the program itself: the instrument's `address`")
	lock := flag.String("lock", "", "used by the program itself: the `name` of the lock")
	flag.Parse()
	if c.duration <= 0 {
		c.duration = 8 * time.Second
		if c.unguarded {
			c.duration = 3 * time.Second // without waiting there is more to read
		}
	}

	var err error
	if *number > 0 {
		err = runWorker(*number, *instrument, *lock, c.duration)
	} else {
		err = run(c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run is main of the process that starts the workers.
func run(c config) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if c.url == "" {
		end, err := startBackend(&c)
		if err != nil {
			return err
		}
		defer end()
	}
	client, err := api.New(c.url, c.key)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := checkBackend(ctx, client); err != nil {
		return err
	}

	sim := new(instrument)
	address, err := sim.start()
	if err != nil {
		return err
	}
	crew := &crew{config: c, client: client, instrument: address}
	if !c.unguarded {
		// A real lock would be named after the instrument that it guards. Here
		// each run has its own.
		crew.lock = fmt.Sprintf("simulated-instrument-%d", os.Getpid())
	}

	fmt.Printf("%d processes with %d goroutines each share one instrument, at %s\n",
		processes, goroutines, address)
	if c.unguarded {
		fmt.Println("without any lock")
	} else {
		fmt.Printf("guarded by lock %q of %s\n", crew.lock, c.url)
	}
	timeline := newTimeline(os.Stdout, !c.unguarded)
	timeline.header()
	events, told := make(chan event), make(chan struct{})
	go func() {
		defer close(told)
		timeline.follow(events)
	}()
	err = crew.work(ctx, events)
	close(events)
	<-told

	if ctx.Err() != nil {
		err = errors.Join(errors.New("interrupted"), err)
	}
	return errors.Join(timeline.score.verdict(os.Stdout, !c.unguarded),
		locksLeft(client, crew.lock), err)
}

// startBackend starts a backend in this process and points c to it. The locks
// are in memory: they end with the process.
func startBackend(c *config) (end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c.url, c.key = "http://"+l.Addr().String(), rand.Text()
	backend := server.New(memstore.New(), server.WithAPIKeys(c.key))
	front := &http.Server{Handler: backend, ReadHeaderTimeout: 10 * time.Second}
	go front.Serve(l)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		backend.Shutdown(ctx)
		front.Close()
	}, nil
}

// checkBackend reports an error once that each worker would run into.
func checkBackend(ctx context.Context, client *api.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := client.List(ctx)
	return err
}

// locksLeft returns an error if a lock of that name is left behind.
func locksLeft(client *api.Client, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	locks, err := client.List(ctx)
	for _, lock := range locks {
		if lock.Name == name {
			return fmt.Errorf("lock %q was left behind: %s", name, lock.ID)
		}
	}
	return err
}
