package server_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

func TestShutdown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		held := b.create("robot-arm-1", "")
		var line []*waiting
		for i := range 5 {
			line = append(line, b.wait("robot-arm-1", fmt.Sprintf("x #%012d", i), 30))
		}
		w := b.watch()
		synctest.Wait()

		began := time.Now()
		require.NoError(t, b.srv.Shutdown(t.Context()))
		require.Zero(t, time.Since(began))
		synctest.Wait()
		for _, waiter := range line {
			r := <-waiter.reply
			require.Equal(t, 503, r.status)
			require.Equal(t, "0", r.header.Get("Retry-After"))
			require.Equal(t, "30", r.header.Get("Relukko-Wait"))
			require.Empty(t, r.header.Get("Preference-Applied"))
		}
		require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(<-w.end))
		for _, r := range []reply{
			b.send(t.Context(), "POST", "/v1/locks", createBody("robot-arm-2", "")),
			b.send(t.Context(), "DELETE", "/v1/locks/"+held.ID, ""),
			b.send(t.Context(), "GET", "/healthchecker", ""),
			b.send(t.Context(), "GET", "/ws/broadcast", ""),
		} {
			require.Equal(t, 503, r.status)
			require.Equal(t, "0", r.header.Get("Retry-After"))
			require.JSONEq(t, `{"status":503,"message":"the server is shutting down"}`, r.body)
		}
		locks, err := b.st.List(t.Context())
		require.NoError(t, err)
		require.Len(t, locks, 1, "the store stays as it is")
		time.Sleep(time.Hour)
		locks, _ = b.st.List(t.Context())
		require.Len(t, locks, 1, "nobody sweeps any more")
		require.NoError(t, b.srv.Shutdown(t.Context()), "again")
	})
}

// TestShutdownClosesConnections: the next request must find the next server.
func TestShutdownClosesConnections(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		b.create("robot-arm-1", "")
		_, answer := b.raw(fmt.Sprintf(
			"POST /v1/locks HTTP/1.1\nHost: x\nX-API-KEY: %s\n"+
				"Prefer: wait=30\nContent-Length: 27\n\n%s", apiKey, `{"lock_name":"robot-arm-1"}`))
		synctest.Wait()
		require.NoError(t, b.srv.Shutdown(t.Context()))
		var said string
		for line := ""; line != "\r\n"; said += line {
			line, _ = answer.ReadString('\n')
		}
		require.Contains(t, said, "HTTP/1.1 503 Service Unavailable\r\n")
		require.Contains(t, said, "Connection: close\r\n")
	})
}

// TestShutdownWaitsForWorkUnderWay, and only as long as it is told to.
func TestShutdownWaitsForWorkUnderWay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := newGate()
		b := startOn(t, st)
		st.stop("slow")
		made := make(chan reply, 1)
		go func() {
			made <- b.send(
				context.Background(), "POST", "/v1/locks", createBody("robot-arm-1", "slow"))
		}()
		synctest.Wait()
		dark := b.dialWatch() // never answers a close
		defer dark.CloseNow()

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, b.srv.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(began))

		done := make(chan error, 1)
		go func() { done <- b.srv.Shutdown(context.Background()) }()
		synctest.Wait()
		require.Empty(t, done)
		st.release()
		synctest.Wait()
		require.NoError(t, <-done)
		require.Equal(t, 201, (<-made).status, "what was begun is finished")
	})
}

// TestShutdownIsNotHeldUpByADarkWatcher: a second, then it is cut off.
func TestShutdownIsNotHeldUpByADarkWatcher(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t)
		dark := b.dialWatch()
		defer dark.CloseNow()
		b.create("robot-arm-1", "") // and it is being written to
		synctest.Wait()
		began := time.Now()
		require.NoError(t, b.srv.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(began), 2*time.Second)
	})
}

// TestShutdownUnderLoad: every request gets an answer, and what is answered 201 is there.
func TestShutdownUnderLoad(t *testing.T) {
	for range 20 {
		bubble.Test(t, func(t *testing.T) {
			b := start(t)
			replies := make(chan reply, 100)
			for i := range cap(replies) {
				go func() {
					time.Sleep(time.Duration(i%7) * time.Millisecond)
					replies <- b.send(context.Background(), "POST", "/v1/locks",
						createBody(fmt.Sprint("lock ", i%10), ""), "Prefer", "wait=5")
				}()
			}
			time.Sleep(3 * time.Millisecond)
			require.NoError(t, b.srv.Shutdown(t.Context()))
			time.Sleep(10 * time.Millisecond)
			made := 0
			for range cap(replies) {
				switch r := <-replies; {
				case r.err != nil: // closed as it was about to be used
				case r.status == 201:
					made++
				default:
					require.Equal(t, 503, r.status)
				}
			}
			locks, err := b.st.List(t.Context())
			require.NoError(t, err)
			require.Len(t, locks, made)
		})
	}
}
