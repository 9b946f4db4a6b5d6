package api_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"gitlab.com/relukko/relukko-go/api"
)

// One attempt at a lock, held for a while and given back.
func Example() {
	ctx := context.Background()
	client, err := api.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Shutdown(ctx)

	lock, err := client.Create(ctx, "robot-arm-1", "bench-7")
	if e, ok := errors.AsType[*api.Error](err); ok && errors.Is(err, api.ErrHeld) {
		if e.Holder != nil {
			fmt.Println("held by", e.Holder.Creator, "until", e.Holder.ExpiresAt)
		}
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	defer client.Delete(ctx, lock.ID)

	if _, err := client.KeepAlive(ctx, lock.ID, time.Minute); errors.Is(err, api.ErrGone) {
		log.Fatal("somebody deleted it")
	}
}

// A list that is fresh whenever something may have changed.
func ExampleClient_Watch() {
	ctx := context.Background()
	client, err := api.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Shutdown(ctx)
	watch, err := client.Watch(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer watch.Close()
	for event := range watch.Events() {
		if event.Kind == api.EventDisconnected {
			fmt.Println("what follows may be old")
			continue
		}
		locks, err := client.List(ctx)
		if err != nil {
			log.Print(err)
			continue
		}
		for _, lock := range locks {
			fmt.Println(lock.Name, lock.Creator, lock.ExpiresAt)
		}
	}
}
