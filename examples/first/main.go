// Command first is the shortest whole program: it holds a lock while it works.
//
//	relukko serve              # in another terminal
//	go run ./examples/first
package main

import (
	"context"
	"fmt"
	"log"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

func main() {
	client, err := api.FromEnv() // the server of this machine, or what relukko login stored
	if err != nil {
		log.Fatal(err)
	}
	arm := relukko.NewMutex(client, "robot-arm-1")

	err = arm.Do(context.Background(), func(ctx context.Context) error {
		fmt.Println("The arm is ours.") // ctx ends before anybody else can have the lock
		return ctx.Err()
	})
	client.Close()
	if err != nil {
		log.Fatal(err)
	}
}
