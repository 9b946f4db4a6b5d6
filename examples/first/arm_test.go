package main

import (
	"testing"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestArm(t *testing.T) {
	backend := relukkotest.NewServer(t) // for a real arm: the client of api.FromEnv
	ctx := relukkotest.Lock(t, backend.Client(), relukkotest.Name("robot-arm-1"))
	if ctx.Err() != nil { // pass ctx to what uses the arm: losing the lock fails the test
		t.Fatal("not ours")
	}
}
