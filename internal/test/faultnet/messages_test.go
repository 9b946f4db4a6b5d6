package faultnet_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

// An echo's second message has each fate, in each direction.
func TestFatesOfAMessage(t *testing.T) {
	for _, row := range []struct {
		name             string
		fate             faultnet.Fate
		fromServer       bool
		arrives, answers bool // at the server; from it
		notices          bool // the client does
	}{
		{"pass", faultnet.Pass, false, true, true, false},
		{"cut before", faultnet.CutBefore, false, false, false, true},
		{"cut after", faultnet.CutAfter, false, true, false, true},
		{"vanish before", faultnet.VanishBefore, false, false, false, true},
		{"vanish after", faultnet.VanishAfter, false, true, false, true},
		{"dark up", faultnet.DarkUp, false, false, false, false},
		{"dark down", faultnet.DarkDown, false, true, false, false},
		{"dark", faultnet.Dark, false, false, false, false},
		{"the answer is cut before", faultnet.CutBefore, true, true, false, true},
		{"the answer is cut after", faultnet.CutAfter, true, true, true, true},
		{"the answer goes dark", faultnet.DarkDown, true, true, false, false},
		{"dark up after the answer", faultnet.DarkUp, true, true, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var network faultnet.Memory
				got := make(chan string, 10)
				l, err := network.Listen("server:80")
				require.NoError(t, err)
				server := &http.Server{Handler: echo(got)}
				go server.Serve(l)
				defer server.Close()
				m := faultnet.NewMessages("/echo")
				defer m.Close()
				h := &http.Client{Transport: &http.Transport{DialContext: m.Wrap(
					func(ctx context.Context, n, address string) (net.Conn, error) {
						return network.DialContext(ctx, n, address)
					})}}
				c, _, err := websocket.Dial(t.Context(), "http://server:80/echo",
					&websocket.DialOptions{HTTPClient: h})
				require.NoError(t, err)
				defer c.CloseNow()
				requireEcho(t, c, "one")
				require.Equal(t, "one", <-got)
				m.Each(func(text []byte, fromServer bool) faultnet.Fate {
					if string(text) == "two" && fromServer == row.fromServer {
						return row.fate
					}
					return faultnet.Pass
				})
				c.Write(t.Context(), websocket.MessageText, []byte("two"))
				synctest.Wait()
				require.Equal(t, row.arrives, len(got) == 1)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				_, text, err := c.Read(ctx)
				require.Equal(t, row.answers, err == nil && string(text) == "two")
				if err == nil {
					_, _, err = c.Read(ctx)
				}
				require.Error(t, err)
				require.Equal(t, row.notices, time.Since(start) == 0)
			})
		})
	}
}

func requireEcho(t *testing.T, c *websocket.Conn, text string) {
	t.Helper()
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(text)))
	_, got, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

func echo(got chan string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			_, text, err := c.Read(context.Background())
			if err != nil {
				return
			}
			got <- string(text)
			if c.Write(context.Background(), websocket.MessageText, text) != nil {
				return
			}
		}
	}
}
