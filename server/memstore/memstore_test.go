package memstore_test

import (
	"testing"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
	"gitlab.com/relukko/relukko-go/server/storetest"
)

func newStore(t *testing.T) store.Store {
	t.Parallel()
	return memstore.New()
}

func TestStore(t *testing.T) { storetest.Run(t, newStore) }

func TestDumps(t *testing.T) { storetest.RunDumps(t, newStore, nil) }
