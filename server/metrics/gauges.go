package metrics

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/observe"
)

const (
	maxNames     = 1000            // that get metrics of their own
	statsTimeout = 5 * time.Second // for a look at a server
)

type statsFunc func(context.Context) (observe.Stats, error)

// gauges shows what a server has when it is looked at. What is not known is left out.
type gauges struct {
	stats *atomic.Pointer[statsFunc]

	locks, waiters, watchers, streams, oldest *prometheus.Desc
	held, waiting, heldFor                    *prometheus.Desc // by name

	patterns []string
	mu       sync.Mutex
	names    map[string]struct{} // that match, as far as they were seen
}

func newGauges(stats *atomic.Pointer[statsFunc], patterns []string) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("relukko_"+name, help, labels, nil)
	}
	g := &gauges{
		stats: stats, patterns: patterns, names: make(map[string]struct{}),
		locks: desc("locks", "Locks in the store: held ones, and expired ones that still hold "+
			"their name.", "state"),
		waiters:  desc("waiters", "Acquires that wait on this server."),
		watchers: desc("watchers", "Clients of /ws/broadcast."),
		streams:  desc("streams", "Clients that have a stream."),
		oldest: desc("queue_oldest_wait_seconds", "How long the acquire has waited that waits "+
			"longest on this server."),
		held:    desc("name_held", "Whether the name is held: 1 or 0.", "lock_name"),
		waiting: desc("name_waiters", "Acquires that wait for the name here.", "lock_name"),
		heldFor: desc("name_held_seconds", "How long the name has been held by the same lock.",
			"lock_name"),
	}
	for _, pattern := range patterns {
		if !strings.Contains(pattern, "*") {
			g.see(pattern)
		}
	}
	return g
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		g.locks, g.waiters, g.watchers, g.streams, g.oldest, g.held, g.waiting, g.heldFor,
	} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(metrics chan<- prometheus.Metric) {
	look := g.stats.Load()
	if look == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	stats, err := (*look)(ctx)
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(g.waiters, float64(stats.Waiters))
	gauge(g.watchers, float64(stats.Watchers))
	gauge(g.streams, float64(stats.Streams))
	gauge(g.oldest, stats.Oldest.Seconds())
	if err != nil {
		return
	}
	now := time.Now()
	expired := 0
	since := make(map[string]time.Time, len(stats.Locks)) // they are held, by name
	for i := range stats.Locks {
		if l := &stats.Locks[i]; l.ExpiresAt.After(now) {
			since[l.Name] = l.CreatedAt
		} else {
			expired++
		}
	}
	gauge(g.locks, float64(len(since)), "held")
	gauge(g.locks, float64(expired), "expired")
	g.mu.Lock()
	defer g.mu.Unlock()
	for name := range since {
		g.see(name)
	}
	for name := range stats.Waiting {
		g.see(name)
	}
	for name := range g.names {
		held, heldFor := 0.0, 0.0
		if created, ok := since[name]; ok {
			held, heldFor = 1, max(now.Sub(created).Seconds(), 0)
		}
		gauge(g.held, held, name)
		gauge(g.heldFor, heldFor, name)
		gauge(g.waiting, float64(stats.Waiting[name]), name)
	}
}

// see records a name that matches, unless there are too many.
func (g *gauges) see(name string) {
	if len(g.names) < maxNames && utf8.ValidString(name) &&
		slices.ContainsFunc(g.patterns, func(p string) bool { return access.Match(p, name) }) {
		g.names[name] = struct{}{}
	}
}
