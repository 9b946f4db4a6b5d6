package metrics

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/internal/test/faultnet"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a server with metrics, and a client.
type bench struct {
	t     *testing.T
	m     *Metrics
	srv   *server.Server
	fails *atomic.Pointer[error] // what the store returns for a create
	http  *http.Client
}

type failing struct {
	*memstore.Store
	err atomic.Pointer[error]
}

func (f *failing) Create(ctx context.Context, in store.NewLock) (store.Lock, error) {
	if err := f.err.Load(); err != nil {
		return store.Lock{}, *err
	}
	return f.Store.Create(ctx, in)
}

// run runs f in a bubble. The keys are admin (an admin's), ada and bob (users').
func run(t *testing.T, names []string, f func(b *bench), options ...server.Option) {
	bubble.Test(t, func(t *testing.T) {
		var network faultnet.Memory
		l, err := network.Listen("backend")
		require.NoError(t, err)
		st := &failing{Store: memstore.New()}
		b := &bench{t: t, m: New(Config{Version: "v1.2.3", Names: names}), fails: &st.err}
		keys := access.Admins("admin")
		for _, name := range []string{"ada", "bob"} {
			keys = append(keys, access.Key{
				Name: name, Role: access.User, Hash: sha256.Sum256([]byte(name))})
		}
		b.srv = server.New(st, append(options, server.WithKeys(keys...),
			server.WithObserver(b.m))...)
		b.m.Follow(b.srv.Stats)
		tr := &http.Transport{DialContext: func(ctx context.Context, n, _ string,
		) (net.Conn, error) {
			return network.DialContext(ctx, n, "backend")
		}}
		b.http = &http.Client{Transport: tr}
		web := &http.Server{Handler: b.srv}
		go web.Serve(l)
		defer func() {
			tr.CloseIdleConnections()
			require.NoError(t, b.srv.Shutdown(context.Background()))
			require.NoError(t, web.Close())
		}()
		time.Sleep(5 * time.Second) // after the start
		f(b)
	})
}

// send makes a request and returns the status and the body.
func (b *bench) send(key, method, path, body string) (int, string) {
	resp, err := b.http.Do(b.request(key, method, path, body))
	require.NoError(b.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return resp.StatusCode, string(text)
}

func (b *bench) request(key, method, path, body string, header ...string) *http.Request {
	req, err := http.NewRequest(method, "http://backend"+path, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("X-API-KEY", key)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// create creates a lock and returns its path.
func (b *bench) create(key, name string) string {
	status, text := b.send(key, "POST", "/v1/locks/", body(name))
	require.Equal(b.t, 201, status, text)
	_, id, _ := strings.Cut(text, `"id":"`)
	return "/v1/locks/" + id[:36]
}

func body(name string) string { return fmt.Sprintf(`{"lock_name":%q,"creator":null}`, name) }

// wait queues a create.
func (b *bench) wait(key, name string, header ...string) {
	req := b.request(key, "POST", "/v1/locks/", body(name), append(header, "Prefer", "wait=20")...)
	go func() {
		if resp, err := b.http.Do(req); err == nil { // else the test has ended
			resp.Body.Close()
		}
	}()
	synctest.Wait()
}

// stream opens a stream, and sends it messages.
func (b *bench) stream(key string, messages ...string) *websocket.Conn {
	conn, _, err := websocket.Dial(b.t.Context(), "http://backend/v1/stream",
		&websocket.DialOptions{HTTPClient: b.http, HTTPHeader: http.Header{"X-Api-Key": {key}},
			Subprotocols: []string{"relukko.stream.v1"}})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { conn.CloseNow() })
	for _, m := range messages {
		require.NoError(b.t, conn.Write(b.t.Context(), websocket.MessageText, []byte(m)))
	}
	synctest.Wait()
	return conn
}

// samples returns what is not 0, by name and labels: of histograms the number of observations. The
// label of a metric is what follows its name.
func (b *bench) samples() map[string]float64 {
	families, err := b.m.registry.Gather()
	require.NoError(b.t, err)
	found := map[string]float64{}
	for _, family := range families {
		name, ours := strings.CutPrefix(family.GetName(), "relukko_")
		if !ours || name == "build_info" {
			continue
		}
		for _, m := range family.GetMetric() {
			key := name
			for _, label := range m.GetLabel() {
				key += " " + label.GetValue()
			}
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
			if v != 0 {
				found[key] = v
			}
		}
	}
	return found
}

// TestWhatCounts has all that an event counts, apart from the calls to list and sweep the store.
func TestWhatCounts(t *testing.T) {
	granted := "lock_acquisitions_total granted, lock_wait_seconds granted, " +
		"store_operation_duration_seconds create ok, " +
		"http_request_duration_seconds 201 POST /v1/locks"
	released := "lock_endings_total released, lock_hold_seconds released, " +
		"store_operation_duration_seconds delete ok, " +
		"http_request_duration_seconds 200 DELETE /v1/locks/{id}"
	for name, c := range map[string]struct {
		do   func(b *bench)
		want string // each counts one
	}{
		"a create": {func(b *bench) { b.create("admin", "x") }, granted + ", locks held"},
		"a create of a held name": {func(b *bench) {
			b.create("admin", "x")
			b.send("ada", "POST", "/v1/locks", body("x"))
		}, granted + ", locks held, lock_acquisitions_total held, lock_wait_seconds held, " +
			"store_operation_duration_seconds create refused, " +
			"http_request_duration_seconds 409 POST /v1/locks"},
		"a release": {func(b *bench) {
			b.send("ada", "DELETE", b.create("ada", "x"), "")
		}, granted + ", store_operation_duration_seconds get ok, " + released},
		"a release by another key": {func(b *bench) {
			b.send("admin", "DELETE", b.create("ada", "x"), "")
		}, granted + ", " + strings.NewReplacer("_total released", "_total broken",
			"_seconds released", "_seconds broken").Replace(released)},
		"an end": {func(b *bench) {
			b.create("ada", "x")
			time.Sleep(time.Hour)
		}, granted + ", lock_endings_total expired, lock_hold_seconds expired"},
		"a hand-over": {func(b *bench) {
			path := b.create("ada", "x")
			b.wait("bob", "x")
			b.send("ada", "DELETE", path, "")
		}, "lock_acquisitions_total granted*2, lock_wait_seconds granted*2, " +
			"http_request_duration_seconds 201 POST /v1/locks*2, locks held, " +
			"store_operation_duration_seconds create ok, " +
			"store_operation_duration_seconds create refused, " +
			"lock_endings_total released, lock_hold_seconds released, " +
			"store_operation_duration_seconds hand_over ok, " +
			"store_operation_duration_seconds get ok, " +
			"http_request_duration_seconds 200 DELETE /v1/locks/{id}"},
		"a wait that ends": {func(b *bench) {
			b.create("ada", "x")
			b.wait("bob", "x")
			time.Sleep(30 * time.Second)
		}, granted + ", locks held, lock_acquisitions_total held, lock_wait_seconds held, " +
			"store_operation_duration_seconds create refused, " +
			"store_operation_duration_seconds holder ok, " +
			"http_request_duration_seconds 409 POST /v1/locks"},
		"a wait that goes on": {func(b *bench) {
			b.create("ada", "x")
			b.wait("bob", "x")
			time.Sleep(10 * time.Second)
		}, granted + ", locks held, waiters, queue_oldest_wait_seconds*10, " +
			"store_operation_duration_seconds create refused"},
		"acquire, renewal and release on a stream": {func(b *bench) {
			c := b.stream("admin", `{"n":1,"acquire":{"lock_names":["x"],`+
				`"creator":"me #k3v5x2m4q7ab","lease":60,"wait":true}}`)
			_, _, err := c.Read(b.t.Context())
			require.NoError(b.t, err)
			_, m, err := c.Read(b.t.Context())
			require.NoError(b.t, err)
			_, id, _ := strings.Cut(string(m), `"id":"`)
			for n, what := range []string{`"lease":60,"renew"`, `"release"`, `"lease":60,"renew"`} {
				require.NoError(b.t, c.Write(b.t.Context(), websocket.MessageText,
					fmt.Appendf(nil, `{"n":%d,%s:%q}`, n+2, what, id[:36])))
			}
		}, "lock_acquisitions_total granted, lock_wait_seconds granted, " +
			"store_operation_duration_seconds create ok, " +
			"store_operation_duration_seconds update ok, lock_renewals_total ok, " +
			"store_operation_duration_seconds update refused, lock_renewals_total refused, " +
			"lock_endings_total released, lock_hold_seconds released, " +
			"store_operation_duration_seconds delete ok, streams, " +
			"http_request_duration_seconds 101 GET /v1/stream"},
		"a cancel": {func(b *bench) {
			b.create("admin", "x")
			b.stream("ada", `{"n":1,"acquire":{"lock_names":["x"],`+
				`"creator":"me #k3v5x2m4q7ab","lease":60,"wait":true}}`,
				`{"n":2,"cancel":"k3v5x2m4q7ab"}`)
		}, granted + ", locks held, lock_acquisitions_total cancelled, " +
			"lock_wait_seconds cancelled, streams, " +
			"store_operation_duration_seconds create refused, " +
			"http_request_duration_seconds 101 GET /v1/stream"},
		"a cancel of a lock": {func(b *bench) {
			b.stream("ada", `{"n":1,"acquire":{"lock_names":["x"],`+
				`"creator":"me #k3v5x2m4q7ab","lease":60,"wait":true}}`)
			b.stream("ada", `{"n":2,"cancel":"k3v5x2m4q7ab"}`)
		}, "lock_acquisitions_total granted, lock_wait_seconds granted, streams*2, " +
			"store_operation_duration_seconds create ok, " +
			"store_operation_duration_seconds cancel ok, " +
			"lock_endings_total cancelled, lock_hold_seconds cancelled, " +
			"http_request_duration_seconds 101 GET /v1/stream*2"},
		"an acquire that goes on elsewhere": {func(b *bench) {
			b.create("admin", "x")
			for range 2 {
				b.stream("ada", `{"n":1,"acquire":{"lock_names":["x"],"again":true,`+
					`"creator":"me #k3v5x2m4q7ab","lease":60,"wait":true}}`)
			}
		}, granted + ", locks held, lock_acquisitions_total continued, waiters, streams*2, " +
			"lock_wait_seconds continued, store_operation_duration_seconds claim ok*2, " +
			"store_operation_duration_seconds create refused, " +
			"http_request_duration_seconds 101 GET /v1/stream*2"},
		"all of several": {func(b *bench) {
			b.stream("ada", `{"n":1,"acquire_all":{"lock_names":["x","y"],`+
				`"creator":"me #k3v5x2m4q7ab","lease":60,"wait":true}}`)
		}, "lock_acquisitions_total granted, lock_wait_seconds granted, locks held*2, streams, " +
			"store_operation_duration_seconds create_all ok, " +
			"http_request_duration_seconds 101 GET /v1/stream"},
		"other changes": {func(b *bench) {
			path := b.create("ada", "x")
			b.send("ada", "PUT", path, `{"creator":"ada","expires_at":null}`)
			b.send("ada", "GET", path+"/add_to_expire_at", "")
			b.send("ada", "GET", path+"/keep_alive", "")
		}, granted + ", locks held, store_operation_duration_seconds update ok*3, " +
			"store_operation_duration_seconds get ok*3, lock_renewals_total ok, " +
			"http_request_duration_seconds 200 PUT /v1/locks/{id}, " +
			"http_request_duration_seconds 200 GET /v1/locks/{id}/keep_alive, " +
			"http_request_duration_seconds 200 GET /v1/locks/{id}/add_to_expire_at"},
		"wrong keys": {func(b *bench) {
			for range 25 {
				b.send("eve", "GET", "/v1/locks", "")
			}
		}, "auth_failures_total wrong_key*20, auth_failures_total too_many*5, " +
			"http_request_duration_seconds 403 GET /v1/locks*20, " +
			"http_request_duration_seconds 429 GET /v1/locks*5"},
		"what a key may not": {func(b *bench) {
			b.send("bob", "DELETE", b.create("ada", "x"), "")
		}, granted + ", locks held, auth_failures_total not_allowed, " +
			"store_operation_duration_seconds get ok, " +
			"http_request_duration_seconds 403 DELETE /v1/locks/{id}"},
		"a key that goes": {func(b *bench) {
			b.create("ada", "x")
			b.wait("bob", "x")
			b.srv.SetKeys()
			synctest.Wait()
		}, granted + ", locks held, auth_failures_total key_gone, " +
			"lock_acquisitions_total cancelled, lock_wait_seconds cancelled, " +
			"store_operation_duration_seconds create refused, " +
			"http_request_duration_seconds 401 POST /v1/locks"},
		"a store that is down": {func(b *bench) {
			err := fmt.Errorf("down: %w", store.ErrUnavailable)
			b.fails.Store(&err)
			b.send("admin", "POST", "/v1/locks", body("x"))
			b.fails.Store(nil)
			time.Sleep(5 * time.Second)
		}, "lock_acquisitions_total unavailable, lock_wait_seconds unavailable, " +
			"store_operation_duration_seconds create unavailable, " +
			"store_operation_duration_seconds cancel ok, " +
			"http_request_duration_seconds 503 POST /v1/locks"},
		"a store that fails": {func(b *bench) {
			err := errors.New("broken")
			b.fails.Store(&err)
			b.send("admin", "POST", "/v1/locks", body("x"))
		}, "lock_acquisitions_total error, lock_wait_seconds error, " +
			"store_operation_duration_seconds create error, " +
			"http_request_duration_seconds 500 POST /v1/locks"},
		"an end of the server": {func(b *bench) {
			b.create("ada", "x")
			b.wait("bob", "x")
			require.NoError(b.t, b.srv.Shutdown(b.t.Context()))
			b.send("", "GET", "/livez", "")
			b.send("", "GET", "/readyz", "")
		}, granted + ", locks held, lock_acquisitions_total closing, lock_wait_seconds closing, " +
			"store_operation_duration_seconds create refused, " +
			"http_request_duration_seconds 503 POST /v1/locks, " +
			"http_request_duration_seconds 200 GET other, " +
			"http_request_duration_seconds 503 GET other"},
		"too many acquires": {func(b *bench) {
			b.create("admin", "x")
			for range 4 {
				b.wait("ada", "x")
			}
		}, granted + ", locks held, lock_acquisitions_total full, lock_wait_seconds full, " +
			"waiters*3, store_operation_duration_seconds create refused, " +
			"http_request_duration_seconds 429 POST /v1/locks"},
		"checks and others": {func(b *bench) {
			for _, path := range []string{"/livez", "/readyz", "/healthchecker", "/no/such"} {
				b.send("", "GET", path, "")
			}
			b.send("", "PATCH", "/livez", "")
		}, "store_operation_duration_seconds ping ok*2, " +
			"http_request_duration_seconds 200 GET /livez, " +
			"http_request_duration_seconds 200 GET /readyz, " +
			"http_request_duration_seconds 200 GET /healthchecker, " +
			"http_request_duration_seconds 404 GET other, " +
			"http_request_duration_seconds 405 other /livez"},
		"a backup": {func(b *bench) {
			status, _ := b.send("admin", "GET", "/v1/backup", "")
			require.Equal(b.t, 200, status)
		}, "http_request_duration_seconds 200 GET /v1/backup"},
		"a watcher": {func(b *bench) {
			conn, _, err := websocket.Dial(b.t.Context(), "http://backend/ws/broadcast",
				&websocket.DialOptions{
					HTTPClient: b.http, HTTPHeader: http.Header{"X-Api-Key": {"ada"}}})
			require.NoError(b.t, err)
			b.t.Cleanup(func() { conn.CloseNow() })
			synctest.Wait()
		}, "watchers, http_request_duration_seconds 101 GET /ws/broadcast"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(b *bench) {
				c.do(b)
				synctest.Wait()
				want := map[string]float64{}
				for sample := range strings.SplitSeq(c.want, ", ") {
					sample, times, many := strings.Cut(sample, "*")
					want[sample] = 1
					if many {
						_, err := fmt.Sscan(times, ptr(want, sample))
						require.NoError(b.t, err)
					}
				}
				got := b.samples()
				maps.DeleteFunc(got, func(sample string, _ float64) bool {
					return strings.HasSuffix(sample, " list ok") ||
						strings.HasSuffix(sample, " sweep ok")
				})
				require.Equal(b.t, want, got)
			}, server.WithMaxAcquires(3))
		})
	}
}

// ptr returns a pointer that sets an entry; the test reads it back.
func ptr(m map[string]float64, key string) *entry { return &entry{m, key} }

type entry struct {
	m   map[string]float64
	key string
}

// Scan implements fmt.Scanner.
func (e *entry) Scan(s fmt.ScanState, verb rune) error {
	var v float64
	_, err := fmt.Fscan(s, &v)
	e.m[e.key] = v
	return err
}

// All names and labels exist from the start, and the linter of the library has nothing to say.
func TestFromTheStart(t *testing.T) {
	run(t, []string{"arm"}, func(b *bench) {
		b.send("admin", "GET", "/livez", "")
		problems, err := testutil.GatherAndLint(b.m.registry)
		require.NoError(t, err)
		require.Empty(t, problems)
		families, err := b.m.registry.Gather()
		require.NoError(t, err)
		series := map[string]int{}
		for _, family := range families {
			series[family.GetName()] = len(family.GetMetric())
		}
		for name, n := range map[string]int{
			"relukko_locks": 2, "relukko_waiters": 1, "relukko_watchers": 1, "relukko_streams": 1,
			"relukko_queue_oldest_wait_seconds": 1, "relukko_lock_acquisitions_total": 8,
			"relukko_lock_endings_total": 4, "relukko_lock_renewals_total": 4,
			"relukko_lock_wait_seconds": 8, "relukko_lock_hold_seconds": 4,
			"relukko_store_operation_duration_seconds": 13 * 4,
			"relukko_http_request_duration_seconds":    1, "relukko_watchers_dropped_total": 1,
			"relukko_auth_failures_total": 4, "relukko_build_info": 1,
			"relukko_name_held": 1, "relukko_name_waiters": 1, "relukko_name_held_seconds": 1,
			"go_goroutines": 1, "process_open_fds": 1,
		} {
			require.Equal(t, n, series[name], name)
		}
		for name := range series {
			require.Contains(t, "relukko_ go_ process_", name[:3], name)
		}
	})
}

// docs/operations.md explains each metric, and names none that does not exist.
func TestTheDocumentNamesThem(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Metrics and alarms\n")
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`relukko_[a-z_]+`).FindAllString(section, -1) {
		name = strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_bucket")
		named[name] = true
	}
	run(t, []string{"arm"}, func(b *bench) {
		b.send("admin", "GET", "/livez", "")
		families, err := b.m.registry.Gather()
		require.NoError(b.t, err)
		there := map[string]bool{}
		for _, family := range families {
			if name := family.GetName(); strings.HasPrefix(name, "relukko_") {
				there[name] = true
			}
		}
		require.Equal(b.t, there, named)
	})
}

// Names are labels where they are configured, and stay once they were seen.
func TestNames(t *testing.T) {
	run(t, []string{"bench-*", "arm"}, func(b *bench) {
		path := b.create("ada", "bench-1")
		b.create("ada", "other")
		b.wait("bob", "bench-1")
		b.wait("bob", "other")
		time.Sleep(10 * time.Second)
		names := func() map[string]float64 {
			got := b.samples()
			maps.DeleteFunc(got, func(s string, _ float64) bool {
				return !strings.HasPrefix(s, "name_")
			})
			return got
		}
		require.Equal(t, map[string]float64{
			"name_held bench-1": 1, "name_held_seconds bench-1": 10, "name_waiters bench-1": 1,
		}, names())
		b.send("ada", "DELETE", path, "")
		synctest.Wait()
		require.Equal(t, map[string]float64{"name_held bench-1": 1}, names())
		time.Sleep(time.Hour)
		require.Empty(t, names())
		require.Equal(t, 2, testutil.CollectAndCount(b.m.registry, "relukko_name_held"))
		for i := range 2 * maxNames {
			b.create("admin", fmt.Sprint("bench-", i))
		}
		require.Equal(t, maxNames, testutil.CollectAndCount(b.m.registry, "relukko_name_held"))
	})
}

// Without locks, as the store is down, the rest is there.
func TestTheStoreIsDown(t *testing.T) {
	m := New(Config{})
	require.Zero(t, testutil.CollectAndCount(m.registry, "relukko_waiters"), "no server yet")
	m.Follow(func(context.Context) (s observe.Stats, err error) {
		s.Waiters = 3
		return s, store.ErrUnavailable
	})
	require.Equal(t, 1, testutil.CollectAndCount(m.registry, "relukko_waiters"))
	require.Zero(t, testutil.CollectAndCount(m.registry, "relukko_locks"))
}
