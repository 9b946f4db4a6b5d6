//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Metrics and profiles are on an address of their own, if one is given.
func TestServeMetrics(t *testing.T) {
	t.Parallel()
	s := serveWith(t, []string{envKey + "=a key of sixteen bytes"}, "--store", "memory",
		"--metrics-addr", "127.0.0.1:0", "--metrics-names", "bench-*", "--metrics-names", "arm")
	said := s.stderr.await(t, "/metrics\n")
	_, url, _ := strings.Cut(said, "metrics on ")
	url = strings.TrimSpace(url)
	get := func(url string) (int, string) {
		resp, err := http.Get(url)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	status, _, text := request(t, s, "POST", "/v1/locks", `{"lock_name":"bench-1","creator":null}`)
	require.Equal(t, 201, status, text)
	status, text = get(url)
	require.Equal(t, 200, status)
	for _, line := range []string{
		`relukko_build_info{goversion="go`, `relukko_locks{state="held"} 1`,
		`relukko_lock_acquisitions_total{result="granted"} 1`,
		`relukko_name_held{lock_name="bench-1"} 1`, `relukko_name_held{lock_name="arm"} 0`,
		"process_open_fds ", "go_goroutines ",
	} {
		require.Contains(t, text, "\n"+line)
	}
	for path, want := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/heap": 200, "/debug/pprof/goroutine?debug=1": 200,
		"/debug/pprof/cmdline": 404, "/v1/locks": 404, "/": 404,
	} {
		status, _ := get(strings.TrimSuffix(url, "/metrics") + path)
		require.Equal(t, want, status, path)
	}
	for _, path := range []string{"/metrics", "/debug/pprof/heap"} {
		status, _, _ := request(t, s, "GET", path, "")
		require.Equal(t, 404, status, path)
	}
	status, _, stderr := run(t, nil, "serve", "--addr", "127.0.0.1:0", "--store", "memory",
		"--metrics-addr", strings.Split(url, "/")[2])
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "relukko: --metrics-addr: cannot listen: ")
	s.stop()
}

// Beyond --max-connections a request hears what is full.
func TestServeMaxConnections(t *testing.T) {
	t.Parallel()
	s := serveWith(t, []string{envKey + "=a key of sixteen bytes"}, "--store", "memory",
		"--max-connections", "2")
	for range 2 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		require.NoError(t, err)
		defer conn.Close()
	}
	status, header, text := request(t, s, "GET", "/v1/locks", "")
	require.Equal(t, 503, status)
	require.Equal(t, "1", header.Get("Retry-After"))
	require.Contains(t, text, `{"status":503,"message":"this server has 2 connections, `+
		`the most that --max-connections allows, `)
}

func TestServeRefusesLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, says string }{
		{"--metrics-names x", "--metrics-names needs --metrics-addr"},
		{"--metrics-addr 9300", `--metrics-addr: "9300" is not an address like 127.0.0.1:9300`},
		{"--max-connections 0", "must be at least 1"},
		{"--max-waiters 0", "must be at least 1"},
		{"--max-acquires -1", "at least 0"},
		{"--max-requests -1", "at least 0"},
	} {
		status, _, stderr := run(t, nil, append([]string{"serve", "--store", "memory", "--addr",
			"127.0.0.1:0"}, strings.Fields(c.args)...)...)
		require.Equal(t, 64, status, c.args)
		require.Contains(t, stderr, c.says)
	}
}
