package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// BenchmarkRound is a create and a delete by one client over loopback: through a handler that does
// no more than decode and answer in JSON, and through the server. What the second costs beyond the
// first is ours.
func BenchmarkRound(b *testing.B) {
	b.Run("bare", func(b *testing.B) { rounds(b, bare(), 0) })
	b.Run("server", func(b *testing.B) {
		srv := server.New(memstore.New(), server.WithAPIKeys(apiKey))
		defer srv.Shutdown(b.Context())
		rounds(b, srv, 0)
	})
	b.Run("server with a watcher", func(b *testing.B) {
		srv := server.New(memstore.New(), server.WithAPIKeys(apiKey))
		defer srv.Shutdown(b.Context())
		rounds(b, srv, 1)
	})
	b.Run("server with 10,000 locks", func(b *testing.B) {
		st := memstore.New()
		for i := range 10_000 {
			_, err := st.Create(b.Context(), store.NewLock{ID: fmt.Sprint(i), Name: fmt.Sprint(i),
				TTL: time.Hour + time.Duration(i)*time.Second})
			require.NoError(b, err)
		}
		srv := server.New(st, server.WithAPIKeys(apiKey))
		defer srv.Shutdown(b.Context())
		rounds(b, srv, 0)
	})
}

// BenchmarkDelete is how long who deletes a lock waits while others watch.
func BenchmarkDelete(b *testing.B) {
	for _, n := range []int{0, 100, 2000} {
		b.Run(fmt.Sprint("watchers=", n), func(b *testing.B) {
			st := memstore.New()
			ts := serve(b, st)
			defer ts.Close()
			client := newClient(b, ts)
			var heard sync.WaitGroup
			for range n {
				defer watchLoopback(b, ts, heard.Done)()
			}
			var answered time.Duration
			for i := 0; b.Loop(); i++ {
				lock, err := st.Create(b.Context(), store.NewLock{ID: fmt.Sprintf(
					"%08d-0000-4000-8000-000000000000", i), Name: "robot-arm-1", TTL: time.Hour})
				require.NoError(b, err)
				heard.Add(n)
				began := time.Now()
				client.delete(lock.ID)
				answered += time.Since(began)
				heard.Wait()
			}
			b.ReportMetric(float64(answered.Microseconds())/float64(b.N), "µs/answer")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkHandoff is a lock going from one of two clients to the other and back, each waiting on
// the server.
func BenchmarkHandoff(b *testing.B) {
	srv := server.New(memstore.New(), server.WithAPIKeys(apiKey))
	ts := onLoopback(b, srv)
	defer func() {
		require.NoError(b, srv.Shutdown(context.Background()))
		ts.Close()
	}()
	var wg sync.WaitGroup
	var handed atomic.Int64
	for range 2 {
		client := newClient(b, ts)
		wg.Go(func() {
			for handed.Add(1) <= int64(b.N) {
				client.round()
			}
		})
	}
	wg.Wait()
}

func rounds(b *testing.B, h http.Handler, watchers int) {
	ts := onLoopback(b, h)
	defer ts.Close()
	client := newClient(b, ts)
	for range watchers {
		defer watchLoopback(b, ts, func() {})()
	}
	b.ReportAllocs()
	for b.Loop() {
		client.round()
	}
}

// loopback is an http.Server on loopback and nothing else: a httptest.Server has a lock of its own.
type loopback struct {
	http.Server
	URL   string
	ended chan struct{}
}

func onLoopback(b *testing.B, h http.Handler) *loopback {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	s := &loopback{Server: http.Server{Handler: h}, URL: "http://" + l.Addr().String(),
		ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		_ = s.Serve(l)
	}()
	return s
}

func (s *loopback) Close() {
	_ = s.Server.Close()
	<-s.ended
}

// benchClient is one caller with a connection of its own.
type benchClient struct {
	b   *testing.B
	url string
	tr  *http.Transport
}

func newClient(b *testing.B, ts *loopback) *benchClient {
	c := &benchClient{b, ts.URL, &http.Transport{}}
	b.Cleanup(c.tr.CloseIdleConnections)
	return c
}

// send has no use for require, which takes a lock that all clients of a benchmark share.
func (c *benchClient) send(method, path, body string, status int) string {
	req, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header["X-Api-Key"] = []string{apiKey}
	req.Header["Prefer"] = []string{"wait=30"}
	resp, err := c.tr.RoundTrip(req)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		panic(fmt.Sprint(resp.Status, string(data), err))
	}
	return string(data)
}

// create answers the id of the lock that it makes.
func (c *benchClient) create(name string) (id string) {
	const idAt, idLen = len(`{"id":"`), 36
	made := c.send("POST", "/v1/locks/",
		`{"lock_name":"`+name+`","creator":"user@host/42 #k3v5x2m4q7ab"}`, 201)
	return made[idAt : idAt+idLen]
}

func (c *benchClient) delete(id string) { c.send("DELETE", "/v1/locks/"+id, "", 200) }

// round creates and deletes.
func (c *benchClient) round() { c.delete(c.create("robot-arm-1")) }

// bare is what anybody would write in ten minutes, without keys, errors, expiry or waiting.
func bare() http.Handler {
	type members struct {
		ID      string    `json:"id"`
		Name    string    `json:"lock_name"`
		Creator *string   `json:"creator"`
		IP      string    `json:"ip"`
		Expires time.Time `json:"expires_at"`
		Created time.Time `json:"created_at"`
		Updated time.Time `json:"updated_at"`
	}
	now := time.Now()
	made := members{ID: nobody, IP: "127.0.0.1", Expires: now, Created: now, Updated: now}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/locks/{$}", func(w http.ResponseWriter, r *http.Request) {
		l := made
		if json.NewDecoder(r.Body).Decode(&l) != nil {
			w.WriteHeader(400)
			return
		}
		w.WriteHeader(201)
		_ = json.NewEncoder(w).Encode(&l)
	})
	mux.HandleFunc("DELETE /v1/locks/{id}", func(w http.ResponseWriter, r *http.Request) {
		l := made
		l.ID = r.PathValue("id")
		_ = json.NewEncoder(w).Encode(&l)
	})
	return mux
}

// watchLoopback connects a watcher that calls heard for each message, until stop.
func watchLoopback(b *testing.B, ts *loopback, heard func()) (stop func()) {
	conn, _, err := websocket.Dial(b.Context(), ts.URL+"/ws/broadcast", &websocket.DialOptions{
		HTTPHeader: http.Header{"X-Api-Key": {apiKey}},
	})
	require.NoError(b, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, _, err := conn.Read(context.Background()); err != nil {
				return
			}
			heard()
		}
	}()
	return func() {
		conn.CloseNow()
		<-ended
	}
}
