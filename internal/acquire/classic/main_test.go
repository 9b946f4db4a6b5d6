package classic

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testName = "robot-arm-1"
	mark     = "k3v5x2m4q7ab" // of the calls under test
	mark2    = "z2z2z2z2z2z2" // of another call
)

// testID returns the n-th of some ids.
func testID(n int) string { return fmt.Sprintf("950daa20-a814-451e-9407-%012d", n) }

// lockOf returns the lock n of the name, made by a create with that mark.
func lockOf(n int, name, mark string) *api.Lock {
	return &api.Lock{ID: testID(n), Name: name, Creator: wire.WithMark("bench-7", mark)}
}

// lockJSON returns a lock as an answer has it, created now.
func lockJSON(n int, name, mark string, lease time.Duration) string {
	creator, now := wire.WithMark("bench-7", mark), time.Now().UTC().Truncate(time.Microsecond)
	return string(wire.AppendLock(nil, &wire.Lock{
		ID: testID(n), Name: name, Creator: &creator, IP: "10.89.0.6",
		CreatedAt: now, UpdatedAt: now, ExpiresAt: now.Add(lease),
	}))
}

// An answer is what a fake backend says. The zero answer ends the connection.
type answer struct {
	status       int
	body, header string // each line of the header with its end
}

// backend returns a driver in front of a fake backend, on a network inside the
// process. Each connection carries one request, so that any status can be sent.
func backend(t *testing.T, respond func(*http.Request) answer) *Driver {
	serve := func(conn net.Conn) {
		defer conn.Close()
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		req.Body = io.NopCloser(bytes.NewReader(body))
		a := respond(req)
		if a.status == 0 {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 %d Status\r\nConnection: close\r\n%s", a.status, a.header)
		if bodiless(a.status) {
			io.WriteString(conn, "\r\n")
		} else {
			fmt.Fprintf(conn, "Content-Length: %d\r\n\r\n%s", len(a.body), a.body)
		}
	}
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go serve(theirs)
		return ours, nil
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	client, err := api.New("http://backend:3000", "s3cr3t", api.WithoutWatch(),
		api.WithHTTPClient(&http.Client{Transport: transport}))
	require.NoError(t, err)
	t.Cleanup(func() { client.Shutdown(context.Background()) })
	return New(client)
}

// nothing breaks the connection.
func nothing(*http.Request) answer { return answer{} }

func bodiless(status int) bool { return status < 200 || status == 204 || status == 304 }

// request asks for the lock as a Mutex does, with the patience of its default.
func request() *acquire.Request {
	return &acquire.Request{
		Name: testName, Creator: wire.WithMark("bench-7", mark), Lease: time.Minute, Wait: true,
		Since: time.Now(), Silence: new(acquire.Silence), Patience: time.Minute,
		BackOff: func() backoff.BackOff {
			return backoff.NewExponentialBackOff(
				backoff.WithInitialInterval(50*time.Millisecond),
				backoff.WithMaxInterval(2*time.Second),
				backoff.WithMaxElapsedTime(0),
			)
		},
		Progress: func(*api.Lock, int) {}, Values: context.Background(), Log: discard,
	}
}

var (
	discard = slog.New(slog.DiscardHandler)
	errTest = errors.New("no connection")
)

// most and none are what chance may be for a pacer. Like rand.N they panic
// where there is nothing to choose from.
func most(d time.Duration) time.Duration {
	if d <= 0 {
		panic("nothing to choose from")
	}
	return d - 1
}

func none(d time.Duration) time.Duration { return min(0, most(d)) }

// pass lets time pass in a bubble, and all that is due by then be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
