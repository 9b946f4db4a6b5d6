package main

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// TestMain makes the test binary act as the processes that it starts, as the program does.
func TestMain(m *testing.M) {
	if asked, err := actAs(os.Args[1:]); asked {
		exit(err)
	}
	goleak.VerifyTestMain(m)
}

// TestOurOwn measures Relukko, on a real server, in every scenario and as shortly
// as possible: all figures are there, and no two holders overlapped.
func TestOurOwn(t *testing.T) {
	s, err := newSite()
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()
	p := plan{
		peers:     []peer{relukkoMemory, relukkoPlain, absent("nobody", "nobody has it")},
		scenarios: scenarios, runs: 1,
		d: 50 * time.Millisecond, idle: 50 * time.Millisecond, progress: io.Discard,
	}
	r, err := p.run(t.Context(), s)
	require.NoError(t, err)
	require.Empty(t, r.failures)
	metrics := []string{uncontended, handoffMedian, handoffLate, warmMedian, warmLate, changes,
		spread, late, longest, namesRate, namesCPU, acquisitions, handedOn, handedOnRival,
		rivalLongest, poolRate, poolBusy, poolLate, poolLongest, poolSpread, poolCPU, idleRequests}
	if len(processors()) >= 2 {
		metrics = append(metrics, pinnedOne, pinnedOneCPU, pinnedTwo, pinnedTwoCPU)
	}
	for _, metric := range metrics {
		require.Len(t, r.values("memory", metric), 1, metric)
	}
	require.NotZero(t, r.values("memory", changes)[0])
	for _, metric := range []string{uncontended, bare, allocations} {
		require.Len(t, r.values("plain", metric), 1, metric)
	}

	var report strings.Builder
	r.print(&report)
	require.Contains(t, report.String(), "| Relukko, memory | **")
	require.Contains(t, report.String(), "Absent: nobody (nobody has it)")
	require.Contains(t, report.String(),
		"| uncontended, without the extensions ÷ bare POST+DELETE | ≤ 1.10 |")
	require.NotContains(t, report.String(), "etcd")
}

// noLock excludes nothing.
type noLock struct{}

func (noLock) lock(ctx context.Context) error { return ctx.Err() }
func (noLock) unlock() error                  { return nil }

type noService struct{ service }

func (noService) pids() []int { return nil }

// TestOverlap checks that a lock that does not exclude is detected.
func TestOverlap(t *testing.T) {
	path := t.TempDir() + "/section"
	section, err := newSection(path)
	require.NoError(t, err)
	section.enter(1)
	again, err := newSection(path) // as another process would
	require.NoError(t, err)
	again.enter(2)
	require.EqualValues(t, 1, again.overlaps.Load())
	section.leave(1)
	require.EqualValues(t, 1, section.overlaps.Load())
	section.leave(2)
	require.NoError(t, again.close())

	m := measurement{section: section, service: noService{}, d: 50 * time.Millisecond}
	got, err := contend(t.Context(), &m, section, []locker{noLock{}, noLock{}})
	require.NoError(t, err)
	require.NotZero(t, got.rate)
	if section.overlaps.Load() > 0 {
		require.ErrorContains(t, m.close(), "overlap!")
	}
}

func TestPick(t *testing.T) {
	some, err := pick(peers, "etcd,memory", func(p peer) string { return p.name })
	require.NoError(t, err)
	require.Equal(t, []string{"etcd", "memory"}, names(some))
	all, err := pick(scenarios, "", func(s scenario) string { return s.name })
	require.NoError(t, err)
	require.Len(t, all, len(scenarios))
	_, err = pick(peers, "nobody", func(p peer) string { return p.name })
	require.ErrorContains(t, err, `no "nobody"`)
}

// TestTargets compares within a run, never across runs.
func TestTargets(t *testing.T) {
	ratio := most("", 2, key{"a", "x"}, key{"b", "x"})
	r := &results{runs: []map[key]float64{
		{{"a", "x"}: 3, {"b", "x"}: 1},
		{{"a", "x"}: 40, {"b", "x"}: 20},
		{{"a", "x"}: 5},
	}}
	require.Equal(t, []float64{3, 2}, ratio.values(r))
	require.True(t, ratio.met(2))
	require.False(t, ratio.met(2.1))
	require.True(t, least("", 2, key{"a", "x"}).met(2))
	require.False(t, least("", 2, key{"a", "x"}).met(1.9))
}

func TestStatistics(t *testing.T) {
	require.Equal(t, 2.0, median([]float64{9, 1, 2}))
	require.Equal(t, 1.5, median([]float64{2, 1}))
	require.Zero(t, median(nil))
	require.Equal(t, 2, quantile([]int{3, 1, 2}, 0.5))
	require.Equal(t, 3, quantile([]int{3, 1, 2}, 0.99))
	for v, text := range map[float64]string{0: "0", 0.123: "0.12", 1.234: "1.23", 12.34: "12.3",
		123.4: "123", 9999: "9999", 12345.6: "12,346"} {
		require.Equal(t, text, number(v))
	}
}

// TestWaits checks that no bucket is wider than a 32nd of what it stands for.
func TestWaits(t *testing.T) {
	for _, d := range []time.Duration{
		0, 1, 31, 32, 63, 64, 65, 127, 128, 1000, 1e6 + 1, 1e9, 1 << 62,
	} {
		least := leastOf(bucketOf(d))
		require.LessOrEqual(t, least, d)
		require.LessOrEqual(t, d-least, d/fineWaits)
	}
	var w waits
	require.Zero(t, w.quantile(0.5))
	for i := range 1000 {
		w.add(time.Duration(i))
	}
	require.EqualValues(t, 500, w.quantile(0.5).Round(100))
	var all waits
	all.merge(&w)
	require.Equal(t, w, all)
}

// TestFrames counts frames that come in pieces.
func TestFrames(t *testing.T) {
	frame := func(masked byte, size int) []byte {
		b := []byte{0x81, masked | byte(size)}
		switch {
		case size > 65535:
			b = binary.BigEndian.AppendUint64([]byte{0x81, masked | 127}, uint64(size))
		case size > 125:
			b = binary.BigEndian.AppendUint16([]byte{0x81, masked | 126}, uint16(size))
		}
		if masked != 0 {
			b = append(b, 1, 2, 3, 4)
		}
		return append(b, make([]byte, size)...)
	}
	sizes := []int{0, 1, 125, 126, 65535, 65536}
	for _, masked := range []byte{0, 0x80} {
		var all []byte
		for _, size := range sizes {
			all = append(all, frame(masked, size)...)
		}
		for _, piece := range []int{1, 7, len(all)} {
			var n atomic.Int64
			f := frameCounter{count: &n}
			for part := range slices.Chunk(all, piece) {
				f.pass(part)
			}
			require.EqualValues(t, len(sizes), n.Load())
			require.Zero(t, f.skip)
			require.Empty(t, f.head)
		}
	}
}

// TestMessages counts what goes over the stream, in both directions.
func TestMessages(t *testing.T) {
	site, err := newSite()
	require.NoError(t, err)
	defer func() { require.NoError(t, site.close()) }()
	s, err := startRelukko(site, "memory", anyPort)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.close()) }()

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, s.proxy.URL+"/v1/stream", &websocket.DialOptions{
		Subprotocols: []string{"relukko.stream.v1"},
		HTTPHeader:   http.Header{"X-Api-Key": {s.key}},
	})
	require.NoError(t, err)
	defer conn.CloseNow()
	require.NoError(t, conn.Write(ctx, websocket.MessageText, []byte(`{"n":1,"ping":true}`)))
	for _, want := range []string{`{"hello":`, `{"n":1,"pong":true}`} {
		_, got, err := conn.Read(ctx)
		require.NoError(t, err)
		require.Contains(t, string(got), want)
	}
	n, err := s.requests(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1+3, n, "the upgrade and three messages")
}

// TestTree finds the server's processes, and the time that they use.
func TestTree(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc")
	}
	p, _, err := start(command{stop: syscall.SIGTERM, ready: "ready",
		args: []string{"sh", "-c", "echo ready; while :; do :; done"}})
	require.NoError(t, err)
	tree := p.tree()
	require.NotEmpty(t, tree)
	require.NotContains(t, tree, p.keeper.Process.Pid)
	require.NoError(t, pin(tree, processors()...))
	m := newMeter(tree)
	require.Eventually(t, func() bool { return m.used() > 10*tick }, 10*time.Second, tick)
	require.NoError(t, p.stop())
}
