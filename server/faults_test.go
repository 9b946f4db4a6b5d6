package server_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// faulty is a store that fails when told to: with an error, or by a panic.
type faulty struct {
	store.Store
	mu    sync.Mutex
	err   error
	panic any
}

func newFaulty() *faulty { return &faulty{Store: twoSteps{memstore.New()}} }

func (f *faulty) fail(err error, panic any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.panic = err, panic
}

func (f *faulty) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.panic != nil {
		panic(f.panic)
	}
	return f.err
}

func (f *faulty) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	if err := f.check(); err != nil {
		return store.Lock{}, err
	}
	return f.Store.Create(ctx, in)
}

func (f *faulty) Get(ctx context.Context, id string) (store.Lock, error) {
	if err := f.check(); err != nil {
		return store.Lock{}, err
	}
	return f.Store.Get(ctx, id)
}

func (f *faulty) Holder(ctx context.Context, name string) (store.Lock, error) {
	if err := f.check(); err != nil {
		return store.Lock{}, err
	}
	return f.Store.Holder(ctx, name)
}

func (f *faulty) List(ctx context.Context) ([]store.Lock, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.Store.List(ctx)
}

func (f *faulty) Update(ctx context.Context, id string, c store.Change) (store.Lock, error) {
	if err := f.check(); err != nil {
		return store.Lock{}, err
	}
	return f.Store.Update(ctx, id, c)
}

func (f *faulty) Delete(ctx context.Context, id string, end store.Ending) (store.Lock, error) {
	if err := f.check(); err != nil {
		return store.Lock{}, err
	}
	return f.Store.Delete(ctx, id, end)
}

func (f *faulty) Claim(ctx context.Context, owner, mark string) (uint64, []store.Lock, error) {
	if err := f.check(); err != nil {
		return 0, nil, err
	}
	return f.Store.Claim(ctx, owner, mark)
}

func (f *faulty) Cancel(ctx context.Context, owner, mark string) ([]store.Lock, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.Store.Cancel(ctx, owner, mark)
}

func (f *faulty) Sweep(ctx context.Context, limits store.Limits) (store.Swept, error) {
	if err := f.check(); err != nil {
		return store.Swept{}, err
	}
	return f.Store.Sweep(ctx, limits)
}

func (f *faulty) Ping(ctx context.Context) error { return f.check() }

// TestTheStoreFails: each request says so, and all is well again when the store is.
func TestTheStoreFails(t *testing.T) {
	for name, c := range map[string]struct {
		err        error
		panic      any
		status     int
		retryAfter string
	}{
		"unavailable": {fmt.Errorf("no connection: %w", store.ErrUnavailable), nil, 503, "1"},
		"an error":    {errors.New("disk full"), nil, 500, ""},
		"a panic":     {nil, "index out of range", 500, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := newFaulty()
				b := startOn(t, st, server.WithGrace(0))
				held := b.create("robot-arm-1", "")
				path := "/v1/locks/" + held.ID
				st.fail(c.err, c.panic)
				for _, r := range []reply{
					b.do(c.status, "GET", "/healthchecker", ""),
					b.do(c.status, "GET", "/v1/locks", ""),
					b.do(c.status, "POST", "/v1/locks", createBody("robot-arm-1", marked)),
					b.do(c.status, "POST", "/v1/locks", createBody("robot-arm-1", marked), "Prefer",
						"wait=5"),
					b.do(c.status, "GET", path, ""),
					b.do(c.status, "PUT", path, "{}"),
					b.do(c.status, "GET", path+"/keep_alive", ""),
					b.do(c.status, "GET", path+"/add_to_expire_at", ""),
					b.do(c.status, "DELETE", path, ""),
				} {
					require.Equal(t, c.retryAfter, r.header.Get("Retry-After"))
					require.Contains(t, r.body, fmt.Sprintf(`{"status":%d,"message":`, c.status))
					require.NotContains(t, r.body, "disk full")
				}
				time.Sleep(11 * time.Minute) // the sweeper fails too
				st.fail(nil, nil)
				time.Sleep(time.Second)
				synctest.Wait()
				require.Empty(t, b.locks())
				b.do(200, "GET", "/healthchecker", "")
				b.create("robot-arm-1", marked)
			})
		})
	}
}

// TestTheStoreFailsToGrant: nobody is forgotten in the line when the store fails in between.
func TestTheStoreFailsToGrant(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		panic any
		want  []int // of the three in line
	}{
		"unavailable": {store.ErrUnavailable, nil, []int{503, 409, 409}},
		"an error":    {errors.New("disk full"), nil, []int{500, 500, 500}},
		"a panic":     {nil, "index out of range", []int{500, 500, 500}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				st := &failsToCreate{faulty: newFaulty()}
				b := startOn(t, st)
				held := b.create("robot-arm-1", "")
				var line []*waiting
				for range 3 {
					line = append(line, b.wait("robot-arm-1", "", 30))
					synctest.Wait()
				}
				time.Sleep(time.Second / 2) // so that no wait ends when the name is offered again
				st.fail(c.err, c.panic)
				b.delete(held.ID)
				synctest.Wait()
				var got []int
				for _, w := range line {
					got = append(got, (<-w.reply).status)
				}
				require.Equal(t, c.want, got)
				st.fail(nil, nil)
				time.Sleep(time.Second)
				held = b.create("robot-arm-1", "")
				w := b.wait("robot-arm-1", "", 30)
				synctest.Wait()
				b.delete(held.ID)
				synctest.Wait()
				w.granted(t)
			})
		})
	}
}

// failsToCreate fails in Create only.
type failsToCreate struct{ *faulty }

func (f *failsToCreate) Delete(ctx context.Context, id string, end store.Ending) (
	store.Lock, error) {
	return f.Store.Delete(ctx, id, end)
}

// TestATakingBackThatFails: the lock that nobody has goes when it expires, and the next in line has
// the name then.
func TestATakingBackThatFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &failsToDelete{gate: newGate()}
		b := startOn(t, st, server.WithGrace(0))
		held := b.create("robot-arm-1", "")
		first := b.wait("robot-arm-1", "first", 30)
		synctest.Wait()
		b.wait("robot-arm-1", "second", 30)
		synctest.Wait()
		st.stop("first")
		go b.send(t.Context(), "DELETE", "/v1/locks/"+held.ID, "")
		synctest.Wait()
		st.failing = true
		first.cancel()
		synctest.Wait()
		st.release()
		synctest.Wait()
		require.Equal(t, "first", *b.locks()[0].Creator)
		time.Sleep(31 * time.Second)
		third := b.wait("robot-arm-1", "third", 30)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		third.granted(t)
	})
}

type failsToDelete struct {
	*gate
	failing bool
}

func (f *failsToDelete) Cancel(ctx context.Context, owner, mark string) ([]store.Lock, error) {
	if f.failing {
		return nil, store.ErrUnavailable
	}
	return f.gate.Cancel(ctx, owner, mark)
}

func (f *failsToDelete) Delete(ctx context.Context, id string, end store.Ending) (
	store.Lock, error) {
	if f.failing {
		return store.Lock{}, store.ErrUnavailable
	}
	return f.gate.Delete(ctx, id, end)
}
