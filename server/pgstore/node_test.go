package pgstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/pgstore"
)

// node is a server on a store of its own, one of several on one database.
type node struct {
	t   testing.TB
	url string
	st  *pgstore.Store
	srv *server.Server
}

// startNodes starts servers that hear each other.
func startNodes(t testing.TB, n int, opts ...server.Option) (nodes []*node, url string) {
	t.Helper()
	url = empty(t)
	return startNodesOn(t, url, n, opts...), url
}

func startNodesOn(t testing.TB, url string, n int, opts ...server.Option) (nodes []*node) {
	t.Helper()
	for range n {
		nodes = append(nodes, startNode(t, url, opts...))
	}
	for _, n := range nodes {
		require.Eventually(t, func() bool {
			return n.st.Listens() &&
				n.st.Heeded() == (len(nodes) > 1)
		}, soon, time.Millisecond)
	}
	return nodes
}

func startNode(t testing.TB, url string, opts ...server.Option) *node {
	t.Helper()
	n := &node{t: t, url: url, st: open(t, url)}
	n.srv = server.New(n.st, append(
		[]server.Option{server.WithAPIKeys("key"), server.WithGrace(0)}, opts...)...)
	t.Cleanup(func() { require.NoError(t, n.srv.Shutdown(context.Background())) })
	return n
}

type answer struct {
	Status int    `json:"-"`
	ID     string `json:"id"`
	Token  uint64 `json:"fencing_token"`
	at     time.Time
}

func (n *node) do(ctx context.Context, method, path, body, prefer string) answer {
	req := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	req.Header.Set("X-API-KEY", "key")
	if prefer != "" {
		req.Header.Set("Prefer", prefer)
	}
	rec := httptest.NewRecorder()
	n.srv.ServeHTTP(rec, req)
	a := answer{Status: rec.Code, at: time.Now()}
	_ = json.Unmarshal(rec.Body.Bytes(), &a)
	return a
}

func (n *node) create(ctx context.Context, name string, wait int) answer {
	prefer := ""
	if wait > 0 {
		prefer = fmt.Sprint("wait=", wait)
	}
	return n.do(ctx, "POST", "/v1/locks", fmt.Sprintf(`{"lock_name":%q}`, name), prefer)
}

func (n *node) delete(id string) {
	if a := n.do(context.Background(), "DELETE", "/v1/locks/"+id, "", ""); a.Status != 200 {
		n.t.Errorf("delete: %d", a.Status)
	}
}

// queue has a create wait, and returns when it is in line.
func (n *node) queue(ctx context.Context, name string) <-chan answer {
	n.t.Helper()
	before := n.waiters(name)
	got := make(chan answer, 1)
	go func() { got <- n.create(ctx, name, 30) }()
	require.Eventually(n.t, func() bool { return n.waiters(name) > before || len(got) > 0 }, soon,
		time.Millisecond)
	return got
}

// waiters returns how many wait on this server for the name, which is held.
func (n *node) waiters(name string) int {
	n.t.Helper()
	for {
		before := n.elsewhere(name)
		all := n.allWaiters(name)
		if n.elsewhere(name) == before {
			return all - before
		}
	}
}

// elsewhere returns how many wait for the name on other servers, as far as they have published it.
func (n *node) elsewhere(name string) (count int) {
	n.t.Helper()
	waiters, err := n.st.Published(context.Background())
	require.NoError(n.t, err)
	for _, w := range waiters {
		if slices.Contains(w.Names, name) {
			count++
		}
	}
	return count
}

func (n *node) allWaiters(name string) int {
	n.t.Helper()
	rec := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "/v1/locks?waiters=1", nil)
	req.Header.Set("X-API-KEY", "key")
	n.srv.ServeHTTP(rec, req)
	var locks []struct {
		Name    string `json:"lock_name"`
		Waiters int    `json:"waiters"`
	}
	require.NoError(n.t, json.Unmarshal(rec.Body.Bytes(), &locks))
	for _, lock := range locks {
		if lock.Name == name {
			return lock.Waiters
		}
	}
	return 0
}

func receive(t testing.TB, got <-chan answer) answer {
	t.Helper()
	select {
	case a := <-got:
		return a
	case <-time.After(soon):
		require.Fail(t, "no answer")
		return answer{}
	}
}
