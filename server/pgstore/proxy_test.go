package pgstore_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
)

// proxy is the network between a store and the database.
type proxy struct {
	faultnet.Faults
	url string

	mu   sync.Mutex
	cut  string
	mute bool
}

// through starts a proxy to the database.
func through(t testing.TB, database string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{}
	u, err := url.Parse(database)
	require.NoError(t, err)
	query := u.Query()
	query.Set("host", "127.0.0.1")
	query.Set("port", l.Addr().(*net.TCPAddr).AddrPort().String()[len("127.0.0.1:"):])
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	p.url = u.String()

	var wg sync.WaitGroup
	faulty := p.Listener(l)
	wg.Go(func() {
		for {
			client, err := faulty.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.carry(client) })
		}
	})
	t.Cleanup(func() {
		faulty.Close()
		p.Close()
		wg.Wait()
	})
	return p
}

func (p *proxy) carry(client net.Conn) {
	defer client.Close()
	db, err := net.Dial("unix", postgres.Socket())
	if err != nil {
		return
	}
	defer db.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	var doomed atomic.Bool
	wg.Go(func() {
		defer db.Close()
		for b := make([]byte, 64<<10); ; {
			n, err := client.Read(b)
			if err != nil {
				return
			}
			if p.cuts(b[:n]) {
				doomed.Store(true)
			}
			if _, err = db.Write(b[:n]); err != nil {
				return
			}
		}
	})
	if p.muted() {
		passOnAllButOthersNotifications(client, db)
		client.Close()
		return
	}
	for b := make([]byte, 64<<10); ; {
		n, err := db.Read(b)
		cut := doomed.Load() // not later: the client may have sent its next request by then
		if err == nil && !cut {
			_, err = client.Write(b[:n])
		}
		if err != nil || cut {
			client.Close()
			return
		}
	}
}

// CutNext has the next request that contains these bytes be carried out, and its connection break
// instead of an answer.
func (p *proxy) CutNext(request string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = request
}

func (p *proxy) cuts(request []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == "" || !bytes.Contains(request, []byte(p.cut)) {
		return false
	}
	p.cut = ""
	return true
}

// Mute makes new connections pass on no notifications of others, as those of a pooler in
// transaction mode.
func (p *proxy) Mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
}

func (p *proxy) muted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mute
}

// passOnAllButOthersNotifications copies PostgreSQL's messages: a byte that says what it is, four
// with the length of the rest. A notification comes with the process that has sent it.
func passOnAllButOthersNotifications(client io.Writer, db io.Reader) {
	const processData, notification = 'K', 'A'
	r := bufio.NewReader(db)
	var own []byte // the process of this session
	for {
		head, err := r.Peek(5)
		if err != nil {
			return
		}
		message := make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(r, message); err != nil {
			return
		}
		switch message[0] {
		case processData:
			own = message[5:9]
		case notification:
			if !bytes.Equal(message[5:9], own) {
				continue
			}
		}
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}
