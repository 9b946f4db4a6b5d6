package memstore_test

import (
	"testing"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

func newStore(*testing.T) store.Store { return memstore.New() }

func TestStore(t *testing.T) { storetest.Run(t, newStore) }

func TestDumps(t *testing.T) { storetest.RunDumps(t, newStore, nil) }
