package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"gitlab.com/relukko/relukko-go/internal/guard"
)

// handler handles a request of a client that was admitted.
type handler func(http.ResponseWriter, *http.Request, *guard.Client)

// reads is a handler that only reads, which every client may.
func reads(handle http.HandlerFunc) handler {
	return func(w http.ResponseWriter, r *http.Request, _ *guard.Client) { handle(w, r) }
}

// counted is a handler of requests whose number is limited. Those that renew or release are not.
func (a *api) counted(handle handler) handler {
	return func(w http.ResponseWriter, r *http.Request, client *guard.Client) {
		if err := client.Spend(); err != nil {
			a.fail(w, r, err, "")
			return
		}
		handle(w, r, client)
	}
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
