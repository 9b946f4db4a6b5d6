package streamapi_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// BenchmarkPair is an acquire and a release, over loopback: alone, and of many names at a time.
func BenchmarkPair(b *testing.B) {
	for _, names := range []int{1, 100} {
		b.Run(fmt.Sprint("names=", names), func(b *testing.B) {
			c := overLoopback(b, start(b, memstore.New()))
			n, mark := 0, 0
			send := func(request string) {
				n++
				c.frame(fmt.Sprintf(`{"n":%d,%s}`, n, request))
			}
			acquireNext := func(name string) {
				mark++
				send(acquire(name, markOf(mark), waits))
			}
			for i := range names {
				acquireNext(fmt.Sprint("arm", i))
			}
			for pairs := 0; pairs < b.N; {
				m := c.receive(b)
				if m.Lock.Name != "" {
					pairs++
					send(release(m.Lock.ID))
					acquireNext(m.Lock.Name)
				}
				if c.in.Buffered() == 0 {
					require.NoError(b, c.out.Flush())
				}
			}
		})
	}
}

// bareClient reads and writes frames and no more, to measure the server.
type bareClient struct {
	in  *bufio.Reader
	out *bufio.Writer
}

func overLoopback(b *testing.B, on *backend) *bareClient {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(b, err)
	b.Cleanup(func() { conn.Close() })
	far, err := l.Accept()
	require.NoError(b, err)
	require.NoError(b, l.Close())
	on.conns <- far
	c := &bareClient{bufio.NewReaderSize(conn, 64<<10), bufio.NewWriterSize(conn, 64<<10)}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Protocol: "+wire.StreamProtocol+"\r\n\r\n")
	resp, err := http.ReadResponse(c.in, nil)
	require.NoError(b, err)
	require.Equal(b, http.StatusSwitchingProtocols, resp.StatusCode)
	return c
}

func (c *bareClient) frame(text string) {
	head := []byte{0x81, 0x80 | 126, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(head[2:], uint16(len(text)))
	_, _ = c.out.Write(head)
	_, _ = c.out.WriteString(text)
}

type bareMessage struct {
	Lock struct {
		ID   string `json:"id"`
		Name string `json:"lock_name"`
	} `json:"lock"`
}

// next returns the next message.
func (c *bareClient) next(b *testing.B) []byte {
	head, err := c.in.Peek(4)
	require.NoError(b, err)
	length, skip := int(head[1]), 2
	if length == 126 {
		length, skip = int(binary.BigEndian.Uint16(head[2:])), 4
	}
	_, _ = c.in.Discard(skip)
	text := make([]byte, length)
	_, err = io.ReadFull(c.in, text)
	require.NoError(b, err)
	return text
}

// receive returns the lock in the next message.
func (c *bareClient) receive(b *testing.B) (m bareMessage) {
	if text := c.next(b); len(text) > 100 {
		require.NoError(b, json.Unmarshal(text, &m))
	}
	return m
}

// BenchmarkWaiters is the memory that a waiter takes on the server: 5,000 wait for as many names on
// one connection.
func BenchmarkWaiters(b *testing.B) {
	const waiters = 5000
	for b.Loop() {
		on := start(b, memstore.New())
		holder, c := overLoopback(b, on), overLoopback(b, on)
		acquireAll := func(c *bareClient, from int, then string) {
			for i := range waiters {
				c.frame(fmt.Sprintf(`{"n":%d,%s}`, i+1,
					acquire(fmt.Sprint("arm", i), markOf(from+i), then)))
				if i%100 == 99 {
					require.NoError(b, c.out.Flush())
				}
			}
			c.frame(`{"n":9007199254740991,"ping":true}`)
			require.NoError(b, c.out.Flush())
		}
		go acquireAll(holder, 0, waits)
		for range waiters + 1 {
			holder.receive(b)
		}
		before := heap()
		go acquireAll(c, waiters, waits)
		c.next(b) // the pong
		b.ReportMetric(float64(heap()-before)/waiters, "B/waiter")
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
