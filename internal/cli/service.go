package cli

import (
	"context"
	"crypto/tls"
	"errors"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/internal/connlimit"
	"gitlab.com/relukko/relukko-go/internal/systemd"
	"gitlab.com/relukko/relukko-go/server"
)

// Time-outs of the connections. Package server limits bodies and waiting
// requests. Our clients close idle connections after 60 s, before the server does.
const (
	headerTimeout  = 10 * time.Second
	writeTimeout   = time.Minute // for the longest list; waiting requests have their own
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10
)

// A server ends within 5 s. What was acknowledged is durable by then.
const (
	shutdownTimeout = 3 * time.Second         // for slow clients
	closeTimeout    = 1500 * time.Millisecond // for a slow store
)

// service is a backend with its HTTP server and its store.
type service struct {
	backend *server.Server
	store   closingStore
	http    *http.Server
	log     *slog.Logger
	manager systemd.Manager
	status  string // for the manager, while the store is available
}

// certificateFunc returns the certificate for a connection; nil: there is no TLS.
type certificateFunc func(*tls.ClientHelloInfo) (*tls.Certificate, error)

func newService(
	backend *server.Server, store closingStore, certificate certificateFunc, log *slog.Logger,
) *service {
	s := &service{backend: backend, store: store, log: log}
	s.http = &http.Server{
		Handler:           backend,
		ConnContext:       connlimit.Context,
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          stdlog.New(&httpLog{log}, "", 0),
		Protocols:         new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true) // there is no WebSocket over HTTP/2
	if certificate != nil {
		s.http.TLSConfig = &tls.Config{GetCertificate: certificate, MinVersion: tls.VersionTLS12}
	}
	return s
}

// manageBy sets the service manager of the environment, which shows the status while the store is
// available.
func (s *service) manageBy(getenv func(string) string, status string) {
	manager, err := systemd.FromEnv(getenv)
	if err != nil {
		s.log.Warn(notNotified, "error", err)
	}
	s.manager, s.status = manager, status
}

const notNotified = "the service manager does not learn of the server's state"

// run serves what l accepts until ctx ends. Then it accepts nothing any more,
// tells waiting clients to come again and watching clients that it ends, answers
// the requests that it has begun, and closes the store. The service manager is notified of both.
func (s *service) run(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	go func() {
		if s.http.TLSConfig != nil {
			served <- s.http.ServeTLS(l, "", "")
		} else {
			served <- s.http.Serve(l)
		}
	}()
	s.notify(systemd.Ready, systemd.Status(s.status))
	go s.watchdog(ctx)
	var failure error
	select {
	case failure = <-served:
		served <- failure
	case <-ctx.Done():
		s.log.Info("ending", "cause", context.Cause(ctx))
	}
	s.notify(systemd.Stopping, systemd.Status("ending"))
	limited, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.http.Shutdown(limited) }()
	<-served
	if err := errors.Join(s.backend.Shutdown(limited), <-drained); err != nil {
		s.log.Warn("some connections were cut off", "error", err)
		s.http.Close()
	}
	if err := s.closeStore(); err != nil {
		return errors.Join(failure, err)
	}
	s.log.Info("ended")
	return failure
}

// watchdog keeps the service manager's watchdog from ending the server, twice as often as it must,
// until ctx ends. It stops when a call of the store does not return, which only a restart can mend.
// A store that returns an error is no reason: a restart brings no database back.
func (s *service) watchdog(ctx context.Context) {
	every := s.manager.Watchdog() / 2
	if every == 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		status := s.status
		if err := s.store.Ping(ctx); err != nil {
			status = "the store is unavailable: " + databaseError(err)
		}
		if ctx.Err() != nil {
			return
		}
		s.notify(systemd.Watchdog, systemd.Status(status))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *service) notify(messages ...string) {
	if err := s.manager.Notify(messages...); err != nil {
		s.log.Warn(notNotified, "error", err)
	}
}

// closeStore returns nil when the store takes too long.
func (s *service) closeStore() error {
	closed := make(chan error, 1)
	go func() { closed <- s.store.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(closeTimeout):
		s.log.Warn("the store did not close in time")
		return nil
	}
}

// httpLog is the log of net/http. A client that does not speak TLS is no warning.
type httpLog struct{ log *slog.Logger }

func (h *httpLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelWarn
	if strings.Contains(text, "TLS handshake error") { // net/http has only the text
		level = slog.LevelDebug
	}
	h.log.Log(context.Background(), level, text)
	return len(line), nil
}
