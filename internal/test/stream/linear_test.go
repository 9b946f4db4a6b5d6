//go:build linux

package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

const linearClients = 14 // goroutines that lock, and two that list

// linearNames are the names of one history.
var linearNames = []string{"a", "b", "c", "d"}

// operation is what a client did, and what it was told.
type operation struct {
	what  string // acquire, release, or list
	locks []lockRef
}

// history is what all clients did.
type history struct {
	began time.Time

	mu  sync.Mutex
	all []porcupine.Operation
}

// add adds an operation that has just ended.
func (h *history) add(client int, call time.Time, what string, locks ...lockRef) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, porcupine.Operation{
		ClientId: client, Call: int64(call.Sub(h.began)), Return: int64(time.Since(h.began)),
		Input: operation{what, locks},
	})
}

// nameState says of a name which lock holds it, or 0, and which was the last one.
type nameState struct{ holder, last uint64 }

// linearModel is all names together: several of them are acquired at one instant.
var linearModel = porcupine.Model{
	Init: func() any { return [4]nameState{} },
	Step: func(state, input, _ any) (bool, any) {
		names, op := state.([4]nameState), input.(operation)
		var listed [4]uint64
		for _, lock := range op.locks {
			i := slices.Index(linearNames, lock.Name)
			n := &names[i]
			switch op.what {
			case "acquire":
				if n.holder != 0 || lock.Token <= n.last {
					return false, state
				}
				n.holder, n.last = lock.Token, lock.Token
			case "release":
				if n.holder != lock.Token {
					return false, state
				}
				n.holder = 0
			case "list":
				listed[i] = lock.Token
			}
		}
		for i, n := range names {
			if op.what == "list" && n.holder != listed[i] {
				return false, state
			}
		}
		return true, names
	},
	Equal: func(a, b any) bool { return a == b },
}

// TestLinearizable has mutexes, pools and mutexes of several names share four names, while others
// list and delete locks and connections are cut. What the clients were told is what they would be
// told one after the other.
func TestLinearizable(t *testing.T) {
	parallel(t)
	for _, store := range stores {
		t.Run(store.name, func(t *testing.T) {
			parallel(t)
			url := store.url(t)
			nodes := []*node{serve(t, url)}
			if store.name == "PostgreSQL" {
				nodes = append(nodes, serve(t, url))
			}
			h := &history{began: time.Now()}
			var clients []*api.Client
			var proxies []*faultnet.Proxy
			for i := range 4 {
				proxies = append(proxies, nodes[i%len(nodes)].proxy())
				clients = append(clients, newClient(t, "http://"+proxies[i].Addr()))
			}
			ctx, end := context.WithCancel(t.Context())
			defer end()
			var lockers, others errgroup.Group
			for i := range linearClients - 2 {
				lockers.Go(func() error { return h.lock(i, clients[i%len(clients)]) })
			}
			others.Go(func() error {
				return h.list(ctx, linearClients-2, newClient(t, nodes[0].url), true)
			})
			others.Go(func() error {
				return h.list(ctx, linearClients-1, newClient(t, nodes[len(nodes)-1].url), false)
			})
			others.Go(func() error {
				for ctx.Err() == nil {
					proxies[rand.IntN(len(proxies))].Cut()
					pause(rand.N(200 * time.Millisecond))
				}
				return nil
			})
			require.NoError(t, lockers.Wait())
			end()
			require.NoError(t, others.Wait())
			unseen := h.complete(t, newClient(t, nodes[0].url))
			result, info := porcupine.CheckOperationsVerbose(linearModel, h.all, patience)
			fmt.Printf("%s: %d operations, %d locks that no client has returned: %s\n",
				t.Name(), len(h.all), unseen, result)
			if result == porcupine.Illegal {
				t.Error("not linearizable; the longest order ends with", lastOf(info, h.all))
			}
		})
	}
}

// complete adds what happened to locks that no Lock has returned, as they were deleted before, and
// returns how many they are: it is known from the history of the server. Of two that say that they
// have released a lock, when a connection was cut, either may have.
func (h *history) complete(t *testing.T, c *api.Client) (unseen int) {
	acquired, released := map[lockRef]bool{}, map[lockRef]int{}
	var all []porcupine.Operation
	for _, op := range h.all {
		in := op.Input.(operation)
		if in.what == "acquire" {
			for _, lock := range in.locks {
				acquired[lock] = true
			}
		}
		if in.what == "release" {
			if i, twice := released[in.locks[0]]; twice {
				all[i].Call = min(all[i].Call, op.Call)
				all[i].Return = max(all[i].Return, op.Return)
				continue
			}
			released[in.locks[0]] = len(all)
		}
		all = append(all, op)
	}
	add := func(what string, from time.Time, lock lockRef, to time.Time) {
		began := h.began.Round(0).Add(20 * time.Millisecond) // by the wall clock, which is set
		all = append(all, porcupine.Operation{
			ClientId: linearClients + len(all), Input: operation{what, []lockRef{lock}},
			Call: int64(from.Sub(began)), Return: int64(to.Sub(began) + time.Second),
		})
	}
	ended, err := c.History(t.Context(), api.HistoryQuery{Limit: 10_000})
	require.NoError(t, err)
	for _, e := range ended {
		lock := lockRef{e.Name, e.FencingToken}
		if !acquired[lock] {
			unseen++
			add("acquire", e.CreatedAt, lock, e.EndedAt) // PostgreSQL commits later
		}
		if _, ok := released[lock]; !ok {
			add("release", e.EndedAt, lock, e.EndedAt)
		}
	}
	h.all = all
	return unseen
}

// lastOf returns the end of the longest order that was found, and the operations that should have
// come next.
func lastOf(info porcupine.LinearizationInfo, all []porcupine.Operation) string {
	var longest []porcupine.Operation
	for _, order := range info.PartialLinearizationsOperations()[0] {
		if len(order) > len(longest) {
			longest = order
		}
	}
	key := func(op porcupine.Operation) [3]int64 {
		return [3]int64{int64(op.ClientId), op.Call, op.Return}
	}
	text, in := "", map[[3]int64]bool{}
	for i, op := range longest {
		in[key(op)] = true
		if i >= len(longest)-10 {
			text += fmt.Sprintf("\n  then %d to %d: %v", op.Call, op.Return, op.Input)
		}
	}
	slices.SortFunc(all, func(a, b porcupine.Operation) int {
		return cmp.Compare(a.Return, b.Return)
	})
	all = slices.DeleteFunc(all, func(op porcupine.Operation) bool { return in[key(op)] })
	for _, op := range all[:min(10, len(all))] {
		text += fmt.Sprintf("\n  but %d to %d: %v", op.Call, op.Return, op.Input)
	}
	return text
}

// lock locks random names again and again.
func (h *history) lock(client int, c *api.Client) error {
	for range scaled(40, 200) {
		var names []string
		for _, i := range rand.Perm(len(linearNames))[:1+rand.IntN(3)] {
			names = append(names, linearNames[i])
		}
		l := []locker{
			relukko.NewMutex(c, names[0]),
			relukko.NewPool(c, names),
			relukko.NewMultiMutex(c, names),
		}[rand.IntN(3)]
		call := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		held, err := l.Lock(ctx)
		if err != nil {
			cancel()
			return err
		}
		s, _ := relukko.FromContext(held)
		var locks []lockRef
		for _, lock := range s.Locks() {
			locks = append(locks, lockRef{lock.Name, lock.FencingToken})
		}
		h.add(client, call, "acquire", locks...)
		pause(rand.N(3 * time.Millisecond))
		call = time.Now()
		err = l.Unlock(held)
		cancel()
		if err := h.unlocked(client, call, locks, err); err != nil {
			return err
		}
	}
	return nil
}

// unlocked adds the releases of an Unlock: each lock is released by itself, and those that were
// deleted by others are not.
func (h *history) unlocked(client int, call time.Time, locks []lockRef, err error) error {
	lost := map[string]bool{}
	all := []error{err}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		all = several.Unwrap()
	}
	for _, err := range all {
		loss, ok := errors.AsType[*relukko.LostError](err)
		switch {
		case ok && loss.Reason == relukko.LossDeleted:
			lost[loss.Name] = true
		case err != nil:
			return err
		}
	}
	for _, lock := range locks {
		if !lost[lock.Name] {
			h.add(client, call, "release", lock)
		}
	}
	return nil
}

// list lists all locks again and again, and deletes one of them now and then.
func (h *history) list(ctx context.Context, client int, c *api.Client, deletes bool) error {
	for ; ctx.Err() == nil; pause(rand.N(5 * time.Millisecond)) {
		call := time.Now()
		listed, err := c.List(context.Background())
		if err != nil {
			return err
		}
		var locks []lockRef
		for _, lock := range listed {
			locks = append(locks, lockRef{lock.Name, lock.FencingToken})
		}
		h.add(client, call, "list", locks...)
		if !deletes || len(listed) == 0 || rand.IntN(20) != 0 {
			continue
		}
		lock := listed[rand.IntN(len(listed))]
		call = time.Now()
		if _, err := c.Delete(context.Background(), lock.ID); err == nil {
			h.add(client, call, "release", lockRef{lock.Name, lock.FencingToken})
		} else if !errors.Is(err, api.ErrGone) {
			return err
		}
	}
	return nil
}
