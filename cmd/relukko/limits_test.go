//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

// openFiles limits the files that the program may have open.
func openFiles(limit string) option {
	return func(c *exec.Cmd) {
		c.Args = append([]string{"sh", "-c", "ulimit " + limit + ` && exec "$0" "$@"`, program},
			c.Args[1:]...)
		c.Path = "/bin/sh"
	}
}

// request makes a request on a connection of its own.
func request(t testing.TB, s *serving, method, path, body string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("X-API-KEY", s.key)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, resp.Header, string(text)
}

// With 64 files and 500 clients those that hold locks keep them, also where their streams break,
// and the others hear what is full.
func TestMoreClientsThanFiles(t *testing.T) {
	t.Parallel()
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			moreClientsThanFiles(t, store(t))
		})
	}
}

func moreClientsThanFiles(t *testing.T, store string) {
	env := []string{envKey + "=a key of sixteen bytes"}
	s := listening(t, env, launch(t, env, []string{"serve", "--addr", "127.0.0.1:0", "--store",
		store}, openFiles("-n 64")))
	proxy, err := faultnet.OpenProxy("tcp", "127.0.0.1:0",
		func() (string, string) { return "tcp", strings.TrimPrefix(s.url, "http://") })
	require.NoError(t, err)
	defer proxy.Close()

	const ttl = 10 * time.Second
	const clients, holders = 500, 8
	var all []*api.Client
	mutex := func(name, url string) *relukko.Mutex {
		c, err := api.New(url, s.key)
		require.NoError(t, err)
		all = append(all, c)
		return relukko.NewMutex(c, name, relukko.WithTTL(ttl))
	}
	var mutexes [holders]*relukko.Mutex
	var held [holders]context.Context
	for i := range holders {
		url := s.url
		if i%4 == 0 {
			url = "http://" + proxy.Addr()
		}
		mutexes[i] = mutex(fmt.Sprint("held-", i), url)
		held[i], err = mutexes[i].Lock(t.Context())
		require.NoError(t, err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), ttl*3/2)
	defer cancel()
	var others sync.WaitGroup
	var mu sync.Mutex
	granted, full := 0, 0
	var unclear []error
	for i := range clients - holders {
		m := mutex(fmt.Sprint("other-", i), s.url)
		others.Go(func() {
			held, err := m.Lock(ctx)
			if err == nil {
				<-ctx.Done()
				assert.NoError(t, m.Unlock(held))
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				granted++
			case strings.Contains(err.Error(), "the limit of open files (ulimit -n 64)"):
				full++
			default:
				unclear = append(unclear, err)
			}
		})
	}
	// They come to take all connections there are.
	eventually(t, "the server is full", func() bool {
		status, header, text := request(t, s, "GET", "/v1/locks/", "")
		if status != http.StatusServiceUnavailable {
			return false
		}
		require.Contains(t, text, "the limit of open files (ulimit -n 64)")
		require.Equal(t, "1", header.Get("Retry-After"))
		return true
	})
	proxy.Cut() // a quarter of the holders need new connections
	for _, path := range []string{"/livez", "/readyz", "/healthchecker"} {
		status, _, text := request(t, s, "GET", path, "")
		require.Equal(t, http.StatusOK, status, text)
	}
	session, _ := relukko.FromContext(held[1])
	for range 50 {
		status, _, text := request(t, s, "PUT", "/v1/locks/"+session.Info().ID+"/keep_alive",
			`{"seconds": 10}`)
		require.Equal(t, http.StatusOK, status, text)
	}
	others.Wait()
	t.Logf("%d were granted their locks, %d heard that the server was full, %d had no answer yet",
		granted, full, len(unclear))
	// On a machine that is busy with other tests some have no answer within their time.
	require.Greater(t, full, clients/2, "%v", errors.Join(unclear...))
	for i := range holders {
		require.NoError(t, context.Cause(held[i]), "holder %d", i)
		require.NoError(t, mutexes[i].Unlock(held[i]), "holder %d", i)
	}
	closing, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	for _, c := range all {
		others.Go(func() { c.Shutdown(closing) })
	}
	others.Wait()
	require.NotContains(t, s.stderr.String(), "too many open files")
	s.stop()
}

// The hard limit of open files counts, and a number that is too small is an error.
func TestServeWithFewFiles(t *testing.T) {
	t.Parallel()
	status, _, stderr := launch(t, nil, []string{"serve", "--addr", "127.0.0.1:0", "--store",
		"memory"}, openFiles("-n 24")).end()
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "the limit of open files is 24")
	require.Contains(t, stderr, "ulimit -n")
	p := launch(t, nil, []string{"serve", "--addr", "127.0.0.1:0", "--store", "memory"},
		openFiles("-Sn 24"))
	p.stderr.await(t, "listening on")
}
