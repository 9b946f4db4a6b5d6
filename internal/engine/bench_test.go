package engine

import (
	"log/slog"
	"testing"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// lastGrant is a sink that keeps the last lock.
type lastGrant struct{ lock store.Lock }

func (s *lastGrant) Granted(_ *Waiter, locks []store.Lock, _ uint64) { s.lock = locks[0] }
func (s *lastGrant) Refused(*Waiter, error, *store.Lock)             {}
func (s *lastGrant) Waiting(*Waiter, int, *store.Lock)               {}
func (s *lastGrant) Deleted(*store.Lock, string)                     {}
func (s *lastGrant) Wanted(string, int)                              {}
func (s *lastGrant) Flush()                                          {}

func BenchmarkAcquireAndRelease(b *testing.B) {
	e := New(b.Context(), memstore.New(), Config{
		MaxWaiters: 20_000, Log: slog.New(slog.DiscardHandler), NewID: wire.NewID,
		Publish: func(store.Event) {}, Flush: func() {},
	})
	time.Sleep(holdOff)
	sink := new(lastGrant)
	c := e.Connect(sink)
	creator := "bench #abcdefghijkl"
	names := []string{"robot"}
	b.ReportAllocs()
	for b.Loop() {
		e.Acquire(&Waiter{Conn: c, Names: names, Wait: true, New: store.NewLock{
			Creator: &creator, Owner: "default", Mark: "abcdefghijkl",
			TTL: time.Minute, Leased: true,
		}})
		e.Delete(c, sink.lock.ID, store.Ending{By: "default"}, func(store.Lock, error) {})
	}
}
