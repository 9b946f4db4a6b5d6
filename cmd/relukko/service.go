package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/server"
)

// Time-outs of the connections. Bodies, and those who wait on the server, are
// the business of package server. Clients of ours let idle connections go after
// 60 s, so they are the first.
const (
	headerTimeout  = 10 * time.Second
	writeTimeout   = time.Minute // for the longest list to be taken; who waits on the server has his own
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10
)

// shutdownTimeout bounds what others can do to delay the end: a caller who is
// in the middle of a request, a watcher who does not take his leave. It leaves
// some of 5 s to the store.
const shutdownTimeout = 3 * time.Second

// closeTimeout is what a store has left of the 5 s. One that does not answer is
// left to itself: what has been acknowledged is durable.
const closeTimeout = 1500 * time.Millisecond

// service is the backend with all that it takes to serve it.
type service struct {
	backend *server.Server
	store   io.Closer
	http    *http.Server
	log     *slog.Logger
}

func newService(backend *server.Server, store io.Closer, certificate *tls.Certificate, log *slog.Logger) *service {
	s := &service{backend: backend, store: store, log: log}
	s.http = &http.Server{
		Handler:           backend,
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          stdlog.New(&httpLog{log}, "", 0),
		Protocols:         new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true) // over HTTP/2 there would be no WebSocket
	if certificate != nil {
		s.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
	}
	return s
}

// run serves what l accepts until ctx ends, then ends in order: it accepts
// nothing any more, those who wait are told to come again, the watchers that it
// goes away, requests under way are answered, the store is closed.
func (s *service) run(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	go func() {
		if s.http.TLSConfig != nil {
			served <- s.http.ServeTLS(l, "", "")
		} else {
			served <- s.http.Serve(l)
		}
	}()
	var failure error
	select {
	case failure = <-served:
		served <- failure
	case <-ctx.Done():
		s.log.Info("ending", "cause", context.Cause(ctx))
	}
	limited, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.http.Shutdown(limited) }()
	<-served
	if err := errors.Join(s.backend.Shutdown(limited), <-drained); err != nil {
		s.log.Warn("some connections were cut", "error", err)
		s.http.Close()
	}
	if err := s.closeStore(); err != nil {
		return errors.Join(failure, err)
	}
	s.log.Info("ended")
	return failure
}

// closeStore returns nil when the store takes too long.
func (s *service) closeStore() error {
	closed := make(chan error, 1)
	go func() { closed <- s.store.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(closeTimeout):
		s.log.Warn("the store does not answer, it is left as it is")
		return nil
	}
}

// serveTLS loads the certificate; nil where there is to be none.
func serveTLS(certFile, keyFile string) (*tls.Certificate, error) {
	if certFile == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, usage("--tls-cert, --tls-key: %v", err)
	}
	return &certificate, nil
}

func randomKey() string { return strings.ToLower(rand.Text()) }

// httpLog takes what net/http has to say. That somebody who connected did not
// speak TLS is nothing to be warned of.
type httpLog struct{ log *slog.Logger }

func (h *httpLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := slog.LevelWarn
	if strings.Contains(text, "TLS handshake error") {
		level = slog.LevelDebug
	}
	h.log.Log(context.Background(), level, text)
	return len(line), nil
}
