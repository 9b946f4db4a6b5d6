package cli

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/internal/connlimit"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/metrics"
)

const (
	metricsConns   = 4               // further ones wait
	metricsTimeout = 2 * time.Minute // for a response; a profile takes 30 s unless it says more
)

// metricsFlags are those of relukko serve for its metrics.
type metricsFlags struct {
	addr  string
	names []string
}

func (f *metricsFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.addr, "metrics-addr", "",
		"`address` for metrics (/metrics) and profiles (/debug/pprof/), without a key: "+
			"such as 127.0.0.1:9300 (default: none)")
	flags.StringArrayVar(&f.names, "metrics-names", nil,
		"`pattern` of locks that have metrics of their own, such as 'bench-*'; may be repeated")
}

// metricsServer serves the metrics of a server; nil: there are none.
type metricsServer struct {
	metrics  *metrics.Metrics
	listener net.Listener
	http     *http.Server
}

// listen returns nil if no metrics are wanted.
func (f *metricsFlags) listen() (*metricsServer, error) {
	if f.addr == "" {
		if len(f.names) > 0 {
			return nil, usage("--metrics-names needs --metrics-addr")
		}
		return nil, nil
	}
	if _, _, err := net.SplitHostPort(f.addr); err != nil {
		return nil, usage("--metrics-addr: %q is not an address like 127.0.0.1:9300", f.addr)
	}
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		return nil, failed("--metrics-addr: cannot listen: %v", err)
	}
	v, _ := version()
	m := &metricsServer{
		metrics:  metrics.New(metrics.Config{Version: v, Names: f.names}),
		listener: connlimit.New(l, metricsConns, 0, ""),
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.metrics.Handler())
	// All but cmdline, which may have the password of a database in it.
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	m.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, WriteTimeout: metricsTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
	}
	return m, nil
}

func (m *metricsServer) option() server.Option {
	if m == nil {
		return server.WithObserver(nil)
	}
	return server.WithObserver(m.metrics)
}

// serve serves the metrics of the backend until close.
func (m *metricsServer) serve(backend *server.Server, log *serveLog) {
	if m == nil {
		return
	}
	m.metrics.Follow(backend.Stats)
	go m.http.Serve(m.listener)
	url := urlOf(m.listener.Addr(), false) + "/metrics"
	log.print("relukko: metrics on "+url, "metrics", slog.String("url", url))
}

func (m *metricsServer) close() {
	if m != nil {
		m.http.Close()
		m.listener.Close()
	}
}
