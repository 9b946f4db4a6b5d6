// Package metrics makes metrics for Prometheus of what a server does.
//
//	m := metrics.New(metrics.Config{})
//	srv := server.New(st, server.WithObserver(m))
//	m.Follow(srv.Stats)
//	http.Handle("/metrics", m.Handler())
//
// docs/operations.md says what each metric means. Names of locks are labels only where they are
// configured, ids and creators never are.
package metrics

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gitlab.com/relukko/relukko-go/server/observe"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Config sets up Metrics.
type Config struct {
	// Version is the version of the program, for relukko_build_info.
	Version string
	// Names are patterns of the names of locks that get metrics of their own: the first 1,000 names
	// that match, and that were held or waited for. A * stands for any characters. A pattern
	// without one is a name that has metrics from the start.
	Names []string
}

// The buckets of the histograms, in seconds.
var (
	longBuckets = []float64{1, 3, 10, 30, 60, 180, 600, 1800, 3600, 3 * 3600, 8 * 3600, 24 * 3600}
	httpBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	callBuckets = []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5}
)

// The results of calls to a store.
var outcomes = []string{"ok", "refused", "unavailable", "error"}

// outcome returns the index in outcomes.
func outcome(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded):
		return 2
	}
	for _, refusal := range []error{
		store.ErrGone, store.ErrHeld, store.ErrCancelled, store.ErrSuperseded,
		store.ErrTooManyMarks, store.ErrOutOfRange,
	} {
		if errors.Is(err, refusal) {
			return 1
		}
	}
	return 3
}

const endings = int(store.Cancelled) + 1

// Metrics is an [observe.Observer]. Make one with New.
type Metrics struct {
	registry *prometheus.Registry
	stats    atomic.Pointer[statsFunc]

	acquires [len(observe.Results)]prometheus.Counter
	waits    [len(observe.Results)]prometheus.Observer
	ended    [endings]prometheus.Counter
	holds    [endings]prometheus.Observer
	renewals []prometheus.Counter
	calls    [len(observe.Operations)][]prometheus.Observer
	refused  [len(observe.Reasons)]prometheus.Counter
	dropped  prometheus.Counter
	requests *prometheus.HistogramVec
}

// New returns Metrics whose counters are 0.
func New(c Config) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newGauges(&m.stats, c.Names),
	)
	acquires := m.counter("lock_acquisitions_total", "Acquires that have ended.", "result")
	waits := m.histogram("lock_wait_seconds", "How long acquires have waited.", longBuckets,
		"result")
	for i, result := range observe.Results {
		m.acquires[i] = acquires.WithLabelValues(result)
		m.waits[i] = waits.WithLabelValues(result)
	}
	ended := m.counter("lock_endings_total", "Locks that this server has ended.", "reason")
	holds := m.histogram("lock_hold_seconds", "How long the locks were held that this server "+
		"has ended.", longBuckets, "reason")
	for how := range endings {
		reason := store.How(how).String()
		m.ended[how], m.holds[how] = ended.WithLabelValues(reason), holds.WithLabelValues(reason)
	}
	renewals := m.counter("lock_renewals_total", "Renewals of locks.", "result")
	calls := m.histogram("store_operation_duration_seconds", "How long calls to the store took.",
		callBuckets, "operation", "result")
	for _, result := range outcomes {
		m.renewals = append(m.renewals, renewals.WithLabelValues(result))
		for i, operation := range observe.Operations {
			m.calls[i] = append(m.calls[i], calls.WithLabelValues(operation, result))
		}
	}
	refused := m.counter("auth_failures_total", "Requests that were refused because of their key.",
		"reason")
	for i, reason := range observe.Reasons {
		m.refused[i] = refused.WithLabelValues(reason)
	}
	m.dropped = m.counter("watchers_dropped_total", "Clients of /ws/broadcast that were "+
		"disconnected, as they were too slow.").WithLabelValues()
	m.requests = m.histogram("http_request_duration_seconds", "How long requests over HTTP took, "+
		"with the time in a queue; of WebSockets, until they were open.", httpBuckets,
		"method", "route", "code")
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "relukko_build_info", Help: "What runs; its value is 1.",
	}, []string{"version", "goversion"})
	info.WithLabelValues(c.Version, runtime.Version()).Set(1)
	m.registry.MustRegister(info)
	return m
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(
		prometheus.CounterOpts{Namespace: "relukko", Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histogram(
	name, help string, buckets []float64, labels ...string,
) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "relukko", Name: name, Help: help, Buckets: buckets,
	}, labels)
	m.registry.MustRegister(v)
	return v
}

// Follow has the metrics show what a server has: stats is its Stats.
func (m *Metrics) Follow(stats func(context.Context) (observe.Stats, error)) {
	f := statsFunc(stats)
	m.stats.Store(&f)
}

// Handler returns the handler of GET /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2})
}

// AcquireEnded implements [observe.Observer].
func (m *Metrics) AcquireEnded(result observe.Result, waited time.Duration) {
	m.acquires[result].Inc()
	m.waits[result].Observe(waited.Seconds())
}

// LockEnded implements [observe.Observer].
func (m *Metrics) LockEnded(how store.How, held time.Duration) {
	m.ended[how].Inc()
	m.holds[how].Observe(held.Seconds())
}

// RenewalEnded implements [observe.Observer].
func (m *Metrics) RenewalEnded(err error) { m.renewals[outcome(err)].Inc() }

// StoreCalled implements [observe.Observer].
func (m *Metrics) StoreCalled(operation observe.Operation, err error, took time.Duration) {
	m.calls[operation][outcome(err)].Observe(took.Seconds())
}

// Responded implements [observe.Observer].
func (m *Metrics) Responded(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// WatcherDropped implements [observe.Observer].
func (m *Metrics) WatcherDropped() { m.dropped.Inc() }

// AccessRefused implements [observe.Observer].
func (m *Metrics) AccessRefused(reason observe.Reason) { m.refused[reason].Inc() }
