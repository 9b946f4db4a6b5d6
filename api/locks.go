package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Lock is a lock as the backend describes it. Times are UTC.
type Lock struct {
	ID           string    `json:"id"` // a UUID in lower case
	Name         string    `json:"lock_name"`
	Creator      string    `json:"creator"` // empty where the backend has none
	IP           string    `json:"ip"`      // of the creator, as the backend saw it
	ExpiresAt    time.Time `json:"expires_at"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	FencingToken uint64    `json:"fencing_token,omitzero"` // 0 where the backend has none
}

// Update is what [Client.Update] changes; nil keeps the value.
type Update struct {
	Creator   *string
	ExpiresAt *time.Time
}

// CreateOption is an option of [Client.Create].
type CreateOption func(*createOptions)

type createOptions struct{ wait time.Duration }

// Wait lets a backend that can queue the request do so for up to d.
func Wait(d time.Duration) CreateOption { return func(o *createOptions) { o.wait = d } }

// Create makes one attempt to create the lock name.
func (c *Client) Create(ctx context.Context, name, creator string, opts ...CreateOption) (Lock, error) {
	var o createOptions
	for _, opt := range opts {
		opt(&o)
	}
	var cr *string
	if creator != "" {
		cr = &creator
	}
	var l Lock
	err := c.simple(ctx, fmt.Sprintf("create lock %q", name), http.MethodPost, "/v1/locks/", map[string]any{"lock_name": name, "creator": cr}, o.wait, &l)
	return l, err
}

// Get returns the lock id.
func (c *Client) Get(ctx context.Context, id string) (l Lock, err error) {
	err = c.simple(ctx, "get lock "+id, http.MethodGet, "/v1/locks/"+id, nil, 0, &l)
	return l, err
}

// List returns all locks.
func (c *Client) List(ctx context.Context) (l []Lock, err error) {
	err = c.simple(ctx, "list locks", http.MethodGet, "/v1/locks/", nil, 0, &l)
	return l, err
}

// Update changes the lock id.
func (c *Client) Update(ctx context.Context, id string, u Update) (l Lock, err error) {
	err = c.simple(ctx, "update lock "+id, http.MethodPut, "/v1/locks/"+id, map[string]any{"creator": u.Creator, "expires_at": u.ExpiresAt}, 0, &l)
	return l, err
}

// Delete deletes the lock id and returns it as it was.
func (c *Client) Delete(ctx context.Context, id string) (l Lock, err error) {
	err = c.simple(ctx, "delete lock "+id, http.MethodDelete, "/v1/locks/"+id, nil, 0, &l)
	return l, err
}

// KeepAlive makes the lock id expire d from now; d 0: the backend's 5 min.
func (c *Client) KeepAlive(ctx context.Context, id string, d time.Duration) (l Lock, err error) {
	err = c.simple(ctx, "keep lock "+id+" alive", http.MethodPut, "/v1/locks/"+id+"/keep_alive", secondsBody(d), 0, &l)
	return l, err
}

// AddToExpiry makes the lock id expire d later; d 0: the backend's 5 min.
func (c *Client) AddToExpiry(ctx context.Context, id string, d time.Duration) (l Lock, err error) {
	err = c.simple(ctx, "add to expiry of lock "+id, http.MethodPut, "/v1/locks/"+id+"/add_to_expire_at", secondsBody(d), 0, &l)
	return l, err
}

func secondsBody(d time.Duration) any {
	if d == 0 {
		d = 5 * time.Minute
	}
	return map[string]any{"seconds": d.Seconds()}
}

// Health returns nil when the backend is up.
func (c *Client) Health(ctx context.Context) error {
	return c.simple(ctx, "health", http.MethodGet, "/healthchecker", nil, 0, nil)
}

// CallOff calls off the create that carries mark.
func (c *Client) CallOff(ctx context.Context, mark string) error {
	return c.simple(ctx, "call off "+mark, http.MethodDelete, "/v1/waiting/"+mark, nil, 0, nil)
}

// MaxWait is how long the backend lets a create wait.
func (c *Client) MaxWait() time.Duration { return time.Duration(c.maxWait.Load()) }

// simple is the first, plain version of a request.
func (c *Client) simple(ctx context.Context, op, method, path string, body any, wait time.Duration, out any) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	if c.trusted {
		if l, ok := out.(*Lock); ok {
			*l = trustLock()
		}
		return nil
	}
	attempt, cancel := context.WithTimeout(ctx, 5*time.Second+wait)
	defer cancel()
	req, err := http.NewRequestWithContext(attempt, method, c.baseURL+path, nil)
	if err != nil {
		return err
	}
	if body != nil {
		b, _ := json.Marshal(body)
		req, _ = http.NewRequestWithContext(attempt, method, c.baseURL+path, newReader(b))
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("X-API-KEY", c.apiKey())
	if wait > 0 {
		req.Header.Set("Prefer", "wait="+strconv.Itoa(int(min(wait+time.Second-1, 30*time.Second)/time.Second)))
	}
	resp, err := c.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return &failure{op: op, err: fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))}
		}
		return &failure{op: op, err: errors.Unwrap(err), transient: true}
	}
	defer resp.Body.Close()
	if method == http.MethodPost {
		n, _ := strconv.Atoi(resp.Header.Get("Relukko-Wait"))
		c.maxWait.Store(int64(n) * int64(time.Second))
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return &failure{op: op, err: err, transient: true}
	}
	if resp.StatusCode/100 != 2 {
		e := &Error{Op: op, Status: resp.StatusCode, Message: string(b[:min(len(b), 256)])}
		var m struct {
			Status  *int
			Message *string
			Lock    *Lock
		}
		if json.Unmarshal(b, &m) == nil && m.Status != nil && m.Message != nil {
			e.Message, e.Holder = *m.Message, m.Lock
			e.gone = (*m.Status == 404 || *m.Status == 422) && e.Status == *m.Status
		}
		return e
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return &Error{Op: op, Status: resp.StatusCode, Message: "the answer is not a lock"}
	}
	return nil
}
