package server_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

func TestKeys(t *testing.T) {
	var log bytes.Buffer
	st := memstore.New()
	logger := slog.New(slog.NewTextHandler(&log, nil))
	b := startOn(t, st, server.WithAPIKeys("", "the second key"), server.WithLogger(logger))
	for key, status := range map[string]int{
		apiKey: 200, "the second key": 200,
		"": 403, "hunter2": 403, "the second ke": 403, "the second key2": 403,
		"The second key": 403,
	} {
		r := b.send(t.Context(), "GET", "/v1/locks", "", "X-API-KEY", key)
		require.Equal(t, status, r.status)
		if status == 403 {
			require.JSONEq(t, `{"status":403,"message":"wrong or missing X-API-KEY"}`, r.body)
		}
	}
	_, answer := b.raw("GET /v1/locks HTTP/1.1\nHost: x\n\n")
	status, err := answer.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 403 Forbidden\r\n", status)
	// Before anything else is said.
	for _, path := range []string{"/v1/locks", "/v1/locks/17", "/v1/waiting/", "/ws/broadcast"} {
		require.Equal(t, 403, b.send(t.Context(), "PATCH", path, "", "X-API-KEY", "hunter2").status)
	}
	require.Equal(t, 200, b.send(t.Context(), "GET", "/healthchecker", "", "X-API-KEY", "").status)

	require.Contains(t, log.String(), `level=WARN msg="refused: wrong or missing X-API-KEY" `+
		`ip=192.0.2.7 user_agent=`)
	require.Less(t, strings.Count(log.String(), "level=WARN"), 6+4, "at most one a second")
	require.NotContains(t, log.String(), "hunter2")
	require.NotContains(t, log.String(), "the second")

	closed := server.New(st) // no key, no entry
	defer func() { require.NoError(t, closed.Shutdown(t.Context())) }()
	rec := httptest.NewRecorder()
	closed.ServeHTTP(rec, httptest.NewRequest("GET", "/v1/locks", nil))
	require.Equal(t, 403, rec.Code)
}

func TestAccessLog(t *testing.T) {
	var log bytes.Buffer
	b := start(t, server.WithLogger(
		slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	b.create("robot-arm-1", "")
	b.do(404, "GET", "/v1/locks/17", "")
	b.tr.CloseIdleConnections()
	require.NoError(t, b.srv.Shutdown(t.Context()))
	require.Contains(t, log.String(),
		`level=DEBUG msg=request method=POST path=/v1/locks/ status=201 ip=192.0.2.7 duration=`)
	require.Contains(t, log.String(), `method=GET path=/v1/locks/17 status=404`)
	require.NotContains(t, log.String(), apiKey)
}

// TestBodies: what callers do with bodies costs nobody else anything.
func TestBodies(t *testing.T) {
	head := "POST /v1/locks HTTP/1.1\nHost: x\nX-API-KEY: " + apiKey + "\n"
	for name, c := range map[string]struct {
		request string
		after   time.Duration
		want    string
	}{
		"a body that never comes": {head + "Content-Length: 27\n\n", 10 * time.Second,
			"HTTP/1.1 408 Request Timeout\r\n"},
		"a body that stops": {head + "Transfer-Encoding: chunked\n\n5\n{\"loc\n",
			10 * time.Second, "HTTP/1.1 408 Request Timeout\r\n"},
		"without a key": {"POST /v1/locks HTTP/1.1\nHost: x\nContent-Length: 27\n\n",
			10 * time.Second, "HTTP/1.1 403 Forbidden\r\n"},
		"at a path that is none": {"POST /v2 HTTP/1.1\nHost: x\nContent-Length: 27\n\n",
			10 * time.Second, "HTTP/1.1 404 Not Found\r\n"},
		"a promise of too much": {head + "Content-Length: 9999999999\n\n", 10 * time.Second,
			"HTTP/1.1 408 Request Timeout\r\n"},
		"a broken chunk": {head + "Transfer-Encoding: chunked\n\nnonsense\n", 0,
			"HTTP/1.1 400 Bad Request\r\n"},
		"in chunks": {head + "Transfer-Encoding: chunked\n\n1b\n" +
			`{"lock_name":"robot-arm-1"}` + "\n0\n\n", 0, "HTTP/1.1 201 Created\r\n"},
		"after an asking if it may": {head + "Expect: 100-continue\nContent-Length: 27\n\n" +
			`{"lock_name":"robot-arm-1"}`, 0, "HTTP/1.1 100 Continue\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := start(t)
				began := time.Now()
				conn, answer := b.raw(c.request)
				status, err := answer.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, c.want, status)
				require.Equal(t, c.after, time.Since(began))
				go func() { _, _ = io.Copy(io.Discard, answer) }()
				time.Sleep(time.Second) // net/http lingers a little, so that the answer arrives
				conn.Close()
			})
		})
	}
}
