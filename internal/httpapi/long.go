package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"gitlab.com/relukko/relukko-go/internal/guard"
)

const (
	maxLong      = 32              // long responses at a time
	maxLongNamed = 8               // of these with the keys of one name
	longWait     = 5 * time.Second // until a further one is refused
)

// longResponses limits how many responses with lists are in memory, as they are until their
// clients have taken them.
type longResponses struct {
	all *semaphore.Weighted

	mu    sync.Mutex
	named map[string]*semaphore.Weighted
}

func (l *longResponses) init() {
	l.all, l.named = semaphore.NewWeighted(maxLong), make(map[string]*semaphore.Weighted)
}

// of returns the semaphore of a key's name.
func (l *longResponses) of(name string) *semaphore.Weighted {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.named[name] == nil {
		l.named[name] = semaphore.NewWeighted(maxLongNamed)
	}
	return l.named[name]
}

// long is a handler whose response may be long.
func (a *api) long(handle handler) handler {
	return func(w http.ResponseWriter, r *http.Request, client *guard.Client) {
		ctx, cancel := context.WithTimeout(r.Context(), longWait)
		defer cancel()
		named := a.longResponses.of(client.Name())
		if named.Acquire(ctx, 1) != nil {
			a.refuseLong(w, r, maxLongNamed, "keys of this name are")
			return
		}
		defer named.Release(1)
		if a.longResponses.all.Acquire(ctx, 1) != nil {
			a.refuseLong(w, r, maxLong, "this server is")
			return
		}
		defer a.longResponses.all.Release(1)
		handle(w, r, client)
	}
}

func (a *api) refuseLong(w http.ResponseWriter, r *http.Request, most int, who string) {
	if err := r.Context().Err(); err != nil {
		a.fail(w, r, err, "")
		return
	}
	retryLater(w, http.StatusTooManyRequests, who+" limited to "+strconv.Itoa(most)+
		" lists at a time, and the clients of these have not read them yet: try again later")
}
