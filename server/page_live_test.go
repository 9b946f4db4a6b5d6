package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestLive: changes come within a second, at most four frames in a second.
func TestLive(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, server.WithKeys(someKeys...), aPage)
		b.create("arm", "ada@desk/7 (flash 1.2) #"+lockMark)
		eve := b.browser().signIn("eve viewer")
		conn, one := eve.live("/page/live"), eve.live("/page/live?name=arm")
		f := nextFrame(t, conn)
		require.True(t, f.Full)
		require.Equal(t, "eve viewer", f.User+" "+f.Role)
		require.Contains(t, eve.get(200, "/").body, f.Version+"/app.js")
		require.Len(t, f.Locks, 1)
		require.Equal(t, "ada@desk/7 flash 1.2 default", strings.Join(
			[]string{f.Locks[0].Holder, f.Locks[0].Reason, f.Locks[0].Owner}, " "))
		require.Equal(t, "your key may only read", f.Locks[0].May["break"])
		require.Len(t, nextFrame(t, one).Locks, 1)

		made := b.create("bench", "")
		begun := time.Now()
		require.Equal(t, "bench", nextFrame(t, conn).Locks[0].Name)
		require.Less(t, time.Since(begun), time.Second)
		w := b.wait("bench", "", 30)
		begun = time.Now()
		require.Equal(t, 1, nextFrame(t, conn).Locks[0].Waiters)
		require.LessOrEqual(t, time.Since(begun), 1500*time.Millisecond)
		w.cancel()
		require.Equal(t, 0, nextFrame(t, conn).Locks[0].Waiters)
		begun = time.Now()
		b.delete(made.ID)
		require.Equal(t, []string{"bench"}, nextFrame(t, conn).Gone)
		require.Less(t, time.Since(begun), time.Second)

		go func() {
			for i := range 100 { // in 5 s
				b.delete(b.create(fmt.Sprint("bench-", i), "").ID)
				b.create(fmt.Sprint("kept-", i), "")
				time.Sleep(50 * time.Millisecond)
			}
		}()
		begun = time.Now()
		frames, seen := 0, map[string]bool{}
		for ; len(seen) < 100; frames++ {
			for _, row := range nextFrame(t, conn).Locks {
				seen[row.Name] = true
			}
		}
		require.LessOrEqual(t, frames, 4*int(1+time.Since(begun)/time.Second))

		b.do(200, "PUT", "/v1/locks/"+f.Locks[0].ID, `{"creator":"bob"}`)
		require.Equal(t, "bob", nextFrame(t, one).Locks[0].Holder, "only its own name")
		b.delete(f.Locks[0].ID)
		require.Equal(t, []string{"arm"}, nextFrame(t, one).Gone)
		alive := time.Now()
		next(t, one)
		require.LessOrEqual(t, time.Since(alive), 5*time.Second, "a sign of life")

		conn.CloseNow()
		one.CloseNow()
		synctest.Wait() // nobody looks, for an instant
		b.create("arm", "")
		f = nextFrame(t, eve.live("/page/live?name=arm"))
		require.Len(t, f.Locks, 1, "what nobody has seen")
	})
}

// A lock that expires, and one whose holder stops to renew it, are shown as such without an event.
func TestStatesChangeWithTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, aPage)
		made := b.do(201, "POST", "/v1/locks", createBody("arm", ""), "Prefer", "lease=60").lock(t)
		renew := func() {
			b.do(200, "PUT", "/v1/locks/"+made.ID+"/keep_alive", `{"seconds":60}`)
		}
		conn := b.browser().signIn(apiKey).live("/page/live")
		row := nextFrame(t, conn).Locks[0]
		require.True(t, row.Renewed, "a client that asks for a lease renews it")
		for begun := time.Now(); time.Since(begun) < 20*time.Second; {
			next(t, conn)
		}
		renew()
		for !row.Stale {
			row = nextFrame(t, conn).Locks[0]
		}
		require.Equal(t, "held", row.State)
		require.False(t, row.Renewed)
		since := time.Since(row.Expires.Add(-time.Minute))
		require.InDelta(t, 41, since.Seconds(), 1.5)
		renew()
		row = nextFrame(t, conn).Locks[0]
		require.True(t, row.Renewed)
		require.False(t, row.Stale)
		for row.State != "expired" {
			row = nextFrame(t, conn).Locks[0]
		}
		require.Equal(t, []string{"arm"}, nextFrame(t, conn).Gone, "swept")
	})
}

// A lock that a stream holds is renewed however long its lease is; one that a command leaves held
// is not.
func TestRenewedByAStream(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, aPage)
		conn := b.stream()
		send(t, conn, `{"n":1,"acquire":{"lock_names":["arm"],"creator":"me #%s","lease":7200}}`,
			lockMark)
		grantedOn(t, conn)
		root := b.browser().signIn(apiKey)
		row := root.row("arm")
		require.True(t, row.Renewed)
		require.Equal(t, "held", row.State)
		root.post(409, "/page/release", fmt.Sprintf(`{"id":%q}`, row.ID))
		conn.CloseNow()
		synctest.Wait()
		row = root.row("arm")
		require.False(t, row.Renewed)
		require.Equal(t, "reserved", row.State)
		root.post(200, "/page/release", fmt.Sprintf(`{"id":%q}`, row.ID))
	})
}

// TestDetails: of a name the queue, the tenures, the days in the zone of the browser, and
// percentiles.
func TestDetails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) { // it is 2000-01-01T00:00:00Z
		b := start(t, aPage)
		for i := range 3 {
			made := b.do(201, "POST", "/v1/locks", createBody("arm", "me #"+lockMark), "Prefer",
				"lease=86400").lock(t)
			time.Sleep(time.Duration(i+1) * time.Hour)
			b.do(200, "DELETE", "/v1/locks/"+made.ID, "", "X-Relukko-Reason", "why%20not")
		}
		b.do(201, "POST", "/v1/locks", createBody("arm", "holder"), "Prefer", "lease=86400")
		b.wait("arm", "first #aaaaaaaaaaaa", 30)
		synctest.Wait()
		b.wait("arm", "second", 30)
		synctest.Wait()
		time.Sleep(time.Hour / 600)
		var d struct {
			Lock    *pageRow
			Queue   []struct{ Creator, Owner string }
			History []struct {
				Creator, Ended, Reason string
				By                     string `json:"ended_by"`
			}
			Days []struct {
				Day  string
				Held float64
			}
			Hold    struct{ P50, P90, P99 float64 }
			Tenures int
		}
		eve := b.browser().signIn(apiKey)
		r := eve.get(200, "/page/lock?name=arm&offset=-120")
		require.NoError(t, json.Unmarshal([]byte(r.body), &d))
		require.Equal(t, 2, d.Lock.Waiters)
		require.Equal(t, "first second", d.Queue[0].Creator+" "+d.Queue[1].Creator)
		require.Len(t, d.History, 3)
		require.Equal(t, "me broken default why not", strings.Join([]string{d.History[0].Creator,
			d.History[0].Ended, d.History[0].By, d.History[0].Reason}, " "))
		require.Len(t, d.Days, 30)
		require.Equal(t, "1999-12-31", d.Days[28].Day)
		require.Equal(t, 7200., d.Days[28].Held)
		require.Equal(t, 4*3600.+6, d.Days[29].Held)
		require.Equal(t, 3600., d.Hold.P50)
		require.Equal(t, 4, d.Tenures)

		r = eve.get(200, "/page/lock?name=nobody")
		require.Contains(t, r.body, `"lock":null,"may":{"release":"nobody has it"`)
		require.NotContains(t, r.body, lockMark)
	})
}

// TestManyLocks: all of them in the first frame, and then only what changes.
func TestManyLocks(t *testing.T) {
	b := start(t, aPage)
	for i := range 5000 {
		b.create(fmt.Sprintf("bench-%04d", i), "ada@desk/7 (flash 1.2)")
	}
	root := b.browser().signIn(apiKey)
	conn := root.live("/page/live")
	f := nextFrame(t, conn)
	require.True(t, f.Full)
	require.Len(t, f.Locks, 5000)
	begun := time.Now()
	made := b.create("arm", "")
	f = nextFrame(t, conn)
	require.False(t, f.Full)
	require.Len(t, f.Locks, 1)
	b.delete(made.ID)
	require.Equal(t, []string{"arm"}, nextFrame(t, conn).Gone)
	require.Less(t, time.Since(begun), 2*time.Second)
}

// The WebSocket of a page ends with the server, and needs no close of the browser's.
func TestShutdownEndsThePage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := start(t, aPage)
		root := b.browser().signIn(apiKey)
		conn, deaf := root.live("/page/live"), root.live("/page/live")
		nextFrame(t, conn)
		nextFrame(t, deaf)
		closed := make(chan websocket.StatusCode, 1)
		go func() {
			for {
				if _, _, err := conn.Read(context.Background()); err != nil {
					closed <- websocket.CloseStatus(err)
					return
				}
			}
		}()
		begun := time.Now()
		require.NoError(t, b.srv.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(begun), 2*time.Second)
		require.Equal(t, websocket.StatusGoingAway, <-closed)
	})
}

// mirror applies frames as a page does.
type mirror map[string]pageRow

func (m mirror) apply(f *pageFrame) {
	if f.Full {
		clear(m)
	}
	for _, row := range f.Locks {
		m[row.Name] = row
	}
	for _, name := range f.Gone {
		delete(m, name)
	}
}

// TestLiveIsWhatIsListed: whatever is done on two servers over one store, while pages come and go
// and events are lost, soon each page shows what is there.
func TestLiveIsWhatIsListed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(7, 1))
		one, two, bus := startTwo(t, server.WithPage(server.Page{PublicView: true}))
		for round := range 20 {
			shows := mirror{}
			conn := one.browser().live("/page/live")
			for range random.IntN(30) {
				name := fmt.Sprint("bench-", random.IntN(5))
				b := []*backend{one, two}[random.IntN(2)]
				held := b.do(200, "GET", "/v1/locks/?lock_name="+name, "").body
				switch {
				case held == "[]":
					b.create(name, fmt.Sprint("round ", round))
				case random.IntN(2) == 0:
					b.send(t.Context(), "DELETE", "/v1/locks/"+idIn(t, held), "")
				default:
					b.send(t.Context(), "PUT", "/v1/locks/"+idIn(t, held),
						fmt.Sprintf(`{"creator":"changed %d"}`, random.IntN(1000)))
				}
				if random.IntN(20) == 0 {
					bus.interrupt()
				}
				if random.IntN(3) == 0 {
					time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
				}
			}
			for begun := time.Now(); time.Since(begun) < 3*time.Second; {
				var f pageFrame // one comes at least each 5 s
				require.NoError(t, json.Unmarshal([]byte(next(t, conn)), &f))
				shows.apply(&f)
			}
			locks := two.locks()
			require.Len(t, shows, len(locks), "round %d", round)
			for _, l := range locks {
				require.Equal(t, l.ID, shows[l.Name].ID)
				require.Equal(t, *l.Creator, shows[l.Name].Holder)
			}
			conn.CloseNow()
			time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
		}
	})
}

func idIn(t *testing.T, list string) string {
	t.Helper()
	var locks []lock
	require.NoError(t, json.Unmarshal([]byte(list), &locks))
	require.Len(t, locks, 1)
	return locks[0].ID
}

// A store that fails or panics leaves the page as it was, until the store is back.
func TestThePageAndAStoreThatFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := newFaulty()
		b := startOn(t, st, aPage)
		b.create("arm", "")
		root := b.browser().signIn(apiKey)
		for _, fault := range []struct{ err, panic any }{
			{err: fmt.Errorf("gone: %w", store.ErrUnavailable)}, {err: errors.New("disk full")},
			{panic: "out of order"},
		} {
			err, _ := fault.err.(error)
			st.fail(err, fault.panic)
			conn := root.live("/page/live")
			time.Sleep(3 * time.Second)
			r := root.ask("GET", "/page/lock?name=arm", "")
			require.Contains(t, []int{500, 503}, r.status)
			r = root.ask("POST", "/page/service", `{"name":"bench"}`)
			require.Contains(t, []int{500, 503}, r.status, r.body)
			require.NotContains(t, r.body, "disk full")
			st.fail(nil, nil)
			require.Equal(t, "arm", nextFrame(t, conn).Locks[0].Name)
			conn.CloseNow()
			synctest.Wait()
			time.Sleep(2 * time.Second)
		}
	})
}

// slowStore holds creates up until they are let go, and fails updates.
type slowStore struct {
	store.Store
	creates chan struct{}
}

func (s *slowStore) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	if s.creates != nil {
		<-s.creates
	}
	return s.Store.Create(ctx, in)
}

func (s *slowStore) Update(context.Context, string, store.Change) (store.Lock, error) {
	return store.Lock{}, errors.New("disk full")
}

// A reservation that fails in the middle, or whose browser goes away, leaves no lock.
func TestAReservationThatFails(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		st := &slowStore{Store: memstore.New()}
		b := startOn(t, struct{ store.Store }{st}, aPage)
		root := b.browser().signIn(apiKey)
		root.post(500, "/page/service", `{"name":"arm"}`)
		require.Empty(t, b.locks())

		st.creates = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST",
			"http://relukko.test:3000/page/service", strings.NewReader(`{"name":"arm"}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Cookie", "relukko-3000="+root.cookies["relukko-3000"])
		gone := make(chan error)
		go func() {
			_, err := b.tr.RoundTrip(req)
			gone <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-gone, context.Canceled)
		synctest.Wait()
		close(st.creates)
		synctest.Wait()
		require.Empty(t, b.locks())
	})
}
