// Command pool shows how many share a few benches that are alike.
//
//	go run ./examples/pool
//
// There are three simulated benches. A nightly soak test runs on one of them as
// long as nobody else wants it. A user comes, with a higher priority, and the
// soak gives way. Then twelve workers have two jobs each, for which any bench
// will do; the soak waits until they are done. Meanwhile a technician takes one
// bench out of service for a while, and the user comes again and is served
// before the workers that wait. At the end the program says what each bench did,
// and fails if two ever used one bench at a time.
//
// Each of these has a client of its own, as if it were on another machine. By
// default the backend is part of the program; with -url it is another one of
// this project: others do not say that somebody waits.
//
// Where to look: people.go is what programs do that use Relukko.
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
	"sync"
	"syscall"
	"time"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

func main() {
	url := flag.String("url", "",
		"base `URL` of a Relukko backend; by default one that is part of this program")
	key := flag.String("key", os.Getenv("RELUKKO_API_KEY"),
		"API `key` for -url; by default that of $RELUKKO_API_KEY")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *url, *key); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url, key string) error {
	if url == "" {
		var end func()
		var err error
		if url, key, end, err = startBackend(); err != nil {
			return err
		}
		defer end()
	}
	// Real locks would be named after the benches. Here each run has its own.
	f := newFloor(fmt.Sprintf("simulated-bench-%d", os.Getpid()))
	err := f.night(ctx, func() (*api.Client, error) { return api.New(url, key) })
	return errors.Join(err, f.verdict(os.Stdout))
}

// night has everybody do what the package comment says.
func (f *floor) night(ctx context.Context, newClient func() (*api.Client, error)) error {
	var clients []*api.Client
	var failed error
	client := func() *api.Client {
		c, err := newClient()
		failed = errors.Join(failed, err)
		clients = append(clients, c)
		return c
	}
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	soak, user, technician := client(), client(), client()
	var crew [workers]*api.Client
	for i := range crew {
		crew[i] = client()
	}
	if failed != nil {
		return failed
	}
	if _, err := soak.List(ctx, api.Once()); err != nil { // which all would run into
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	begin := func(work func() error) {
		group.Go(func() {
			if err := work(); err != nil {
				cancel(err)
			}
		})
	}
	quiet, end := context.WithCancel(ctx)
	defer end()
	var soaking sync.WaitGroup
	soaking.Go(func() {
		if err := f.soak(quiet, soak); err != nil {
			cancel(err)
		}
	})
	pause(ctx, time.Second)
	begin(func() error { return f.user(ctx, user) })
	pause(ctx, 2*time.Second)
	for i, c := range crew {
		begin(func() error { return f.worker(ctx, c, fmt.Sprint("worker ", i+1)) })
		pause(ctx, 20*time.Millisecond)
	}
	begin(func() error { return f.technician(ctx, technician) })
	pause(ctx, 500*time.Millisecond)
	begin(func() error { return f.user(ctx, user) })
	group.Wait()
	pause(ctx, time.Second) // for the soak
	end()
	soaking.Wait()
	return context.Cause(ctx)
}

// startBackend starts a backend in this process. Its locks are in memory.
func startBackend() (url, key string, end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", nil, err
	}
	key = rand.Text()
	backend := server.New(memstore.New(), server.WithAPIKeys(key))
	front := &http.Server{Handler: backend, ReadHeaderTimeout: 10 * time.Second}
	go front.Serve(l)
	return "http://" + l.Addr().String(), key, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		backend.Shutdown(ctx)
		front.Close()
	}, nil
}
