//go:build linux

package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
)

// plainClient does what PyRelukko does: it creates the lock by a plain POST, and when the name is
// held, tries again at each broadcast of a delete.
type plainClient struct {
	t       testing.TB
	url     string
	creator string
	http    http.Client
	deletes chan struct{} // holds one element if there was a broadcast since the last try
}

// open opens the client's broadcasts, until ctx ends.
func (p *plainClient) open(ctx context.Context, reading *sync.WaitGroup) {
	p.t.Helper()
	p.deletes = make(chan struct{}, 1)
	p.http.Transport = &http.Transport{}
	p.t.Cleanup(p.http.CloseIdleConnections)
	conn, _, err := websocket.Dial(ctx, p.url+"/ws/broadcast",
		&websocket.DialOptions{HTTPHeader: http.Header{"X-Api-Key": {apiKey}}})
	require.NoError(p.t, err)
	reading.Go(func() {
		defer conn.CloseNow()
		for {
			_, b, err := conn.Read(ctx)
			if err != nil {
				return
			}
			var m struct{ Deleted json.RawMessage }
			if json.Unmarshal(b, &m) == nil && len(m.Deleted) > 0 {
				select {
				case p.deletes <- struct{}{}:
				default:
				}
			}
		}
	})
}

// work acquires and releases the name until ctx ends.
func (p *plainClient) work(ctx context.Context, name string, section func()) error {
	body := fmt.Sprintf(`{"lock_name":%q,"creator":%q}`, name, p.creator)
	for ctx.Err() == nil {
		select {
		case <-p.deletes: // from before
		default:
		}
		a, err := request(context.Background(), &p.http, "POST", p.url+"/v1/locks/", body)
		switch {
		case err != nil:
			return err
		case a.status == http.StatusConflict:
			select {
			case <-p.deletes:
			case <-time.After(time.Second): // PyRelukko: 200 s
			case <-ctx.Done():
			}
			continue
		case a.status != http.StatusCreated:
			return fmt.Errorf("%d: %s", a.status, a.body)
		}
		var lock struct{ ID string }
		if err := json.Unmarshal([]byte(a.body), &lock); err != nil {
			return err
		}
		section()
		a, err = request(context.Background(), &p.http, "DELETE", p.url+"/v1/locks/"+lock.ID, "")
		if err != nil || a.status != http.StatusOK {
			return fmt.Errorf("%d: %s, %v", a.status, a.body, err)
		}
	}
	return nil
}

// TestPlainClientsGetTheirShare lets 3 plain clients contend with 12 on the stream.
func TestPlainClientsGetTheirShare(t *testing.T) {
	parallel(t)
	const name, plain, streams = "robot-arm-1", 3, 12
	n := serve(t, "memory")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var working, reading sync.WaitGroup
	var counts [plain + streams]atomic.Int64
	var inside atomic.Int32
	var total atomic.Int64
	section := func(i int) {
		if inside.Add(1) != 1 {
			t.Error("two sections overlap")
		}
		counts[i].Add(1)
		total.Add(1)
		pause(5 * time.Millisecond)
		inside.Add(-1)
	}
	for i := range plain {
		p := &plainClient{t: t, url: n.url, creator: fmt.Sprint("plain-", i)}
		p.open(ctx, &reading)
		working.Go(func() {
			if err := p.work(ctx, name, func() { section(i) }); err != nil {
				t.Error(err)
			}
		})
	}
	for i := plain; i < plain+streams; i++ {
		m := relukko.NewMutex(newClient(t, n.url), name)
		working.Go(func() {
			for ctx.Err() == nil {
				err := m.Do(context.Background(), func(context.Context) error {
					section(i)
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	pause(scaled(2*time.Second, 20*time.Second))
	await(t, "enough sections", func() bool { return total.Load() >= 300 })
	cancel()
	working.Wait()
	reading.Wait()
	var all []int64
	for i := range counts {
		all = append(all, counts[i].Load())
	}
	fmt.Printf("%s: %d plain clients, then %d on the stream: %v sections\n", t.Name(), plain,
		streams, all)
	for i := range plain {
		require.GreaterOrEqual(t, all[i], total.Load()/(plain+streams)/2)
	}
}
