package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

const benchLock = `{"id":"950daa20-a814-451e-9407-ec496cf9c136","lock_name":"robot-arm-1",` +
	`"creator":"bench-7","ip":"10.89.0.6","expires_at":"2024-10-31T20:14:43.9313Z",` +
	`"created_at":"2024-10-31T20:04:43.9313Z","updated_at":"2024-10-31T20:04:43.9313Z"}`

func benchServer(b *testing.B) string {
	created, deleted := []byte(benchLock), []byte(benchLock)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
			w.Write(created)
			return
		}
		w.Write(deleted)
	}))
	b.Cleanup(s.Close)
	return s.URL
}

// A create and a delete through the client, beside the same with nothing but
// net/http: the difference is what this package costs.
func BenchmarkPostDelete(b *testing.B) {
	url := benchServer(b)
	b.Run("api", func(b *testing.B) {
		c, err := New(url, "somekey")
		require.NoError(b, err)
		defer c.Shutdown(context.Background())
		ctx := context.Background()
		b.ReportAllocs()
		for b.Loop() {
			l, err := c.Create(ctx, "robot-arm-1", "bench-7")
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.Delete(ctx, l.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net-http", func(b *testing.B) {
		t := http.DefaultTransport.(*http.Transport).Clone()
		defer t.CloseIdleConnections()
		client := &http.Client{Transport: t}
		do := func(method, url string, body []byte) {
			var in io.Reader
			if body != nil {
				in = bytes.NewReader(body)
			}
			req, err := http.NewRequest(method, url, in)
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("X-API-KEY", "somekey")
			req.Header.Set("Content-Type", "application/json")
			resp, err := client.Do(req)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		b.ReportAllocs()
		for b.Loop() {
			body, _ := json.Marshal(map[string]string{"lock_name": "robot-arm-1",
				"creator": "bench-7"})
			do(http.MethodPost, url+"/v1/locks/", body)
			do(http.MethodDelete, url+"/v1/locks/950daa20-a814-451e-9407-ec496cf9c136", nil)
		}
	})
}
