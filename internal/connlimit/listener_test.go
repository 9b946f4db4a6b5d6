package connlimit

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sayFull(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, Full(r.Context())) }

// A request on a spare connection knows it, also with TLS.
func TestFull(t *testing.T) {
	for name, start := range map[string]func(*httptest.Server){
		"TCP": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS,
	} {
		t.Run(name, func(t *testing.T) {
			ts := httptest.NewUnstartedServer(http.HandlerFunc(sayFull))
			l := New(ts.Listener, 1, 2, "it is full")
			ts.Listener = l
			ts.Config.ConnContext = Context
			ts.Config.ErrorLog = log.New(io.Discard, "", 0)
			start(ts)
			defer ts.Close()
			get := func() string {
				tr := ts.Client().Transport.(*http.Transport).Clone()
				defer tr.CloseIdleConnections()
				resp, err := (&http.Client{Transport: tr}).Get(ts.URL)
				require.NoError(t, err)
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				return string(text)
			}
			require.Empty(t, get())
			require.Eventually(t, func() bool { return l.open.Load() == 0 },
				10*time.Second, time.Millisecond)
			first, err := net.Dial("tcp", ts.Listener.Addr().String())
			require.NoError(t, err)
			defer first.Close()
			for range 10 {
				require.Equal(t, "it is full", get())
			}
		})
	}
}

// Beyond the spare connections others wait. A spare one is closed if its client says nothing, or
// after some time.
func TestSpareConnectionsEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var network faultnet.Memory
		inner, err := network.Listen("server")
		require.NoError(t, err)
		l := New(inner, 1, 2, "full")
		accepted := make(chan net.Conn)
		go func() {
			defer close(accepted)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
		dial := func() (near, far net.Conn) {
			near, err := network.DialContext(t.Context(), "", "server")
			require.NoError(t, err)
			return near, <-accepted
		}
		began := time.Now()
		near, usual := dial()
		defer near.Close()
		for _, c := range []struct {
			talk string
			ends time.Duration
		}{{"", spareIdle}, {"hello", spareTime}} {
			near, far := dial()
			defer near.Close()
			_, err := io.WriteString(near, c.talk)
			require.NoError(t, err)
			from := time.Now()
			_, err = io.ReadAll(far)
			require.Error(t, err)
			require.Equal(t, c.ends, time.Since(from))
		}
		for range 2 {
			near, _ := dial()
			defer near.Close()
		}
		from := time.Now()
		near, far := dial()
		defer near.Close()
		require.Equal(t, spareIdle, time.Since(from), "it waits for a slot")
		require.NotEmpty(t, Context(t.Context(), far).Value(key{}))
		require.Nil(t, Context(t.Context(), usual).Value(key{}))
		require.Less(t, time.Since(began), time.Minute)
		time.Sleep(time.Minute)
		require.NoError(t, usual.Close())
		_ = usual.Close() // counts once
		require.Zero(t, l.open.Load())
		require.NoError(t, l.Close())
		<-accepted
	})
}

// A connection gives what package net gives: a file descriptor, and a close in two steps.
func TestConn(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := New(inner, 1, 0, "full")
	near, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer near.Close()
	far, err := l.Accept()
	require.NoError(t, err)
	_, err = far.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, far.(interface{ CloseWrite() error }).CloseWrite())
	_, err = near.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)

	waits := make(chan error)
	go func() {
		_, err := l.Accept()
		waits <- err
	}()
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-waits, net.ErrClosed)
	require.NoError(t, far.Close())
	_, err = (&conn{Conn: &net.TCPConn{}}).SyscallConn()
	require.Error(t, err)
	require.Empty(t, Full(context.Background()))
}

func TestFiles(t *testing.T) {
	limit, used := Files()
	require.Greater(t, limit, used)
}
