package server_test

import (
	"testing"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

func TestMemoryStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) server.Store { return server.NewMemoryStore() })
	storetest.RunHandOver(t, func(*testing.T) server.HandOverStore { return server.NewMemoryStore() })
}
