package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/internal/supervise"
	"gitlab.com/relukko/relukko-go/server"
)

// serveFlags are those of relukko serve.
type serveFlags struct {
	addr, store         string
	grace, waitForStore time.Duration
	history, maxHold    time.Duration
	historyMax          int
	socketMode          string
	tlsCert, tlsKey     string
	keys, auditLog      string
	trustedProxies      []string
	page                pageFlags
	logFormat, logLevel string
	limits              limitFlags
	metrics             metricsFlags
}

const serveLong = `Run a Relukko backend until SIGTERM or SIGINT.

The locks are kept in a file, through a crash and a loss of power (--store
bolt:PATH; one server at a time can use it), in PostgreSQL (--store or
DATABASE_URL with postgres://…; any number of servers over one database are one
backend), or in memory, until the server ends. Others on the machine can read a
password on the command line, but not one in DATABASE_URL.

The API key comes from the file that --api-key-file names, from RELUKKO_API_KEY
or from the file that RELUKKO_API_KEY_FILE names. There can be several keys,
separated by commas or line breaks, so that clients can change from one to
another. Without any, on a loopback address or a Unix socket, the server makes
one and keeps it beside the file with the locks, PATH.key, or else in the state
directory. It uses that key again when it is restarted, and at the default
address and on a Unix socket clients of the same user find it by themselves. On
another address the server does not start without a key; 'relukko key new' makes
one.

These keys may do everything. Those in the file of --keys or RELUKKO_KEYS_FILE
have names, and may do what their line says: NAME ROLE sha256:HEX [PATTERN …],
which 'relukko key new NAME' appends. With such a file the server makes no key.
The audit log says who changed the lock of another, and what was refused.

With --max-hold a lock that is not an admin's expires at most that long after
its creation, however often it is renewed. Its holder loses it, and is told why.
The keys of RELUKKO_API_KEY are admins', so this takes keys with names.

On a Unix socket (--addr unix:PATH) only processes of the same machine reach the
server: those that may write to the socket's file (--socket-mode), which belongs
to the server's user and group. The server replaces the socket of one that was
killed, refuses to start where another one listens, and removes its socket at
the end. Clients use unix://PATH as the URL; 'ip' of their locks is "unix".

On its page, at / in a browser, people see who has which lock, live, and
reserve, extend, release and break locks as their keys may. They sign in with a
key, or with RELUKKO_USER and RELUKKO_PASSWORD as an admin of that name. There
is a page (--web) where these two or a file of --keys are given, and where the
server has made its key: then it prints a link that signs in once, within 5 min.
With --public-view everybody who reaches the server sees all locks.

The store remembers the locks that have ended for --history: see relukko history
and relukko usage. Of servers over one database, the one that remembers least
decides.

The certificate and the files of keys are read again within 10 s of a change,
and immediately on SIGHUP. What cannot be read, or has an error, leaves the
previous ones in use. Connections of keys that are gone are closed. On SIGHUP
the audit log is also opened again, for what rotates logs.

With --metrics-addr it serves metrics for Prometheus, and profiles, on an
address of their own. /livez and /readyz are checks without a key. The limits
(--max-…) do not concern those that renew or release a lock; docs/operations.md
has more.

When it is ready, a line on stderr says where it listens and which store it
uses. On SIGTERM or SIGINT it accepts no new work, tells waiting clients to come
again, and ends within 5 s with exit status 0; on a second signal it ends
immediately. A lock that was acknowledged is kept in any case.

As a service of systemd it says when it is ready and when it ends (Type=notify),
serves the watchdog (WatchdogSec=) as long as the store returns, and keeps its
files in the StateDirectory= of the service.`

func newServe(p *program) *cobra.Command {
	f := serveFlags{grace: 3 * time.Minute, waitForStore: time.Minute, history: 90 * day}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a backend",
		Long:  serveLong,
		Example: examples(
			"relukko serve",
			"RELUKKO_API_KEY=new,old relukko serve --addr 0.0.0.0:3000 "+
				"--tls-cert cert.pem --tls-key key.pem",
			"DATABASE_URL=postgres://relukko:secret@db/relukko relukko serve "+
				"--addr 0.0.0.0 --api-key-file /run/secrets/relukko",
			"relukko serve --addr unix:/run/relukko/relukko.sock",
			"relukko serve --addr 127.0.0.1:0 --store memory    # to try it: on any free port",
		),
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if p.url != "" {
			return usage("--url is for clients; the address that serve listens on is --addr")
		}
		return p.serve(&f)
	}
	return cmd
}

func (f *serveFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.addr, "addr", "", "`address` to listen on, port 0: any free one; "+
		"or unix:PATH, a Unix socket (default $RELUKKO_BIND_ADDR, else "+defaultAddr()+")")
	flags.StringVar(&f.socketMode, "socket-mode", "0660",
		"`mode` of the Unix socket: those that may write to it can connect")
	flags.StringVar(&f.store, "store", "", "where the locks are kept: "+
		"bolt:PATH, memory or postgres://… "+
		"(default $DATABASE_URL, else a file in $STATE_DIRECTORY or the user's state directory)")
	durationVar(cmd, &f.waitForStore, "wait-for-store",
		"how long to retry when PostgreSQL is not available at the start")
	durationVar(cmd, &f.grace, "grace", "how long an expired lock keeps its name")
	durationVar(cmd, &f.maxHold, "max-hold",
		"how long keys other than admins' may hold a lock (default: without bound)")
	durationVar(cmd, &f.history, "history",
		"how long to remember locks that have ended; 0: not at all")
	flags.IntVar(&f.historyMax, "history-max", 1_000_000,
		"how many of them to remember at most, the newest: `n`; 0: none")
	flags.StringVar(&f.tlsCert, "tls-cert", "",
		"`file` with the certificate chain, in PEM, for TLS")
	flags.StringVar(&f.tlsKey, "tls-key", "", "`file` with the certificate's private key, in PEM")
	flags.StringVar(&f.keys, "keys", "",
		"`file` of keys with names and roles (default $RELUKKO_KEYS_FILE)")
	flags.StringVar(&f.auditLog, "audit-log", "",
		"`file` to append the audit log to, in JSON (default: the log on stderr)")
	flags.StringArrayVar(&f.trustedProxies, "trusted-proxy", nil,
		"`CIDR` of proxies whose X-Forwarded-For or Forwarded counts; may be repeated")
	f.page.add(cmd)
	f.limits.add(cmd)
	f.metrics.add(cmd)
	flags.StringVar(&f.logFormat, "log-format", "text",
		"`format` of the log on stderr: text or json")
	flags.StringVar(&f.logLevel, "log-level", "info",
		"least `level` that is logged: debug (every request), info, warn or error")
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	for flag, values := range map[string][]cobra.Completion{
		"web":        {"on", "off"},
		"log-format": {"text", "json"},
		"log-level":  {"debug", "info", "warn", "error"},
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag,
			cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// serve returns when the server has ended.
func (p *program) serve(f *serveFlags) error {
	log, err := newServeLog(p.Stderr, f.logFormat, f.logLevel)
	if err != nil {
		return err
	}
	files := &reloader{log: log.Logger}
	certificate, err := f.certificate(files)
	if err != nil {
		return err
	}
	options, auditFile, err := f.options(files)
	if err != nil {
		return err
	}
	defer auditFile.Close()
	spec, err := p.storeSpec(f.store)
	if err != nil {
		return err
	}
	ctx, stop := endOnSignal()
	defer stop()
	hangups := supervise.Notify(syscall.SIGHUP)
	ignoreBrokenPipes()

	l, err := p.listenLimited(f, certificate != nil, spec)
	if err != nil {
		return err
	}
	defer l.Close()
	keys, options, err := p.keysAndPage(f, l.Addr(), options)
	if err != nil {
		return err
	}
	metrics, err := f.metrics.listen()
	if err != nil {
		return err
	}
	defer metrics.close()
	store, err := openOrEnd(ctx, spec, f.waitForStore, log.Logger)
	if store == nil {
		return err
	}
	if err := keys.complete(p, p.keyPath(spec)); err != nil {
		store.Close()
		return err
	}
	status := log.listening(l.Addr(), certificate != nil, spec)
	backend := server.New(store,
		append(options, server.WithKeys(keys.all()...), metrics.option())...)
	keys.announce(log, backend.SignInLink())
	metrics.serve(backend, log)
	keys.reload(backend, files)
	go files.run(ctx, hangups)
	s := newService(backend, store, certificate, log.Logger)
	s.manageBy(p.getenv, status)
	if err := s.run(ctx, l); err != nil {
		return failed("%s", plain(err))
	}
	return nil
}

// keysAndPage returns the keys of the server that listens on addr, and the options with that for
// its page.
func (p *program) keysAndPage(f *serveFlags, addr net.Addr, options []server.Option) (
	*serverKeys, []server.Option, error,
) {
	keys, err := p.serverKeys(addr, f.keys)
	if err == nil {
		options, err = p.addPage(options, &f.page, keys)
	}
	return keys, options, err
}

// listenLimited is listen, with limits of the connections.
func (p *program) listenLimited(f *serveFlags, tls bool, spec string) (net.Listener, error) {
	l, err := p.listen(f.addr, f.socketMode, tls)
	if err != nil {
		return nil, err
	}
	limited, err := f.limits.limit(l, spec)
	if err != nil {
		l.Close()
		return nil, err
	}
	return limited, nil
}

// openOrEnd is openStore; it returns nil and nil if ctx ends before the store is open.
func openOrEnd(
	ctx context.Context, spec string, wait time.Duration, log *slog.Logger,
) (closingStore, error) {
	store, err := openStore(ctx, spec, wait, log)
	switch {
	case ctx.Err() != nil && err == nil:
		store.Close()
		return nil, nil
	case ctx.Err() != nil:
		return nil, nil
	case err != nil:
		return nil, failed("store %s: %s", showStore(spec), databaseError(err))
	}
	return store, nil
}

// options returns the options of the server, but for its keys, and the file of its audit log.
func (f *serveFlags) options(files *reloader) ([]server.Option, *auditFile, error) {
	proxies, err := trustedProxies(f.trustedProxies)
	if err != nil {
		return nil, nil, err
	}
	limits, err := f.limits.options()
	if err != nil {
		return nil, nil, err
	}
	audit, file, err := newAuditLog(f.auditLog, files)
	if err != nil {
		return nil, nil, err
	}
	return append(limits,
		server.WithGrace(f.grace), server.WithLogger(files.log), server.WithAuditLog(audit),
		server.WithTrustedProxies(proxies...), server.WithHistory(f.history, f.historyMax),
		server.WithMaxHold(f.maxHold),
	), file, nil
}

// certificate returns the certificate of the server, which files reloads; nil where
// there is none.
func (f *serveFlags) certificate(files *reloader) (certificateFunc, error) {
	if f.tlsCert == "" {
		return nil, nil
	}
	var now atomic.Pointer[tls.Certificate]
	err := files.add("certificate", func() error {
		certificate, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
		if err == nil {
			now.Store(&certificate)
		}
		return err
	}, f.tlsCert, f.tlsKey)
	if err != nil {
		return nil, usage("--tls-cert, --tls-key: %v", err)
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return now.Load(), nil }, nil
}

// trustedProxies returns the networks of --trusted-proxy. An address stands for itself.
func trustedProxies(values []string) (proxies []netip.Prefix, _ error) {
	for _, value := range values {
		proxy, err := netip.ParsePrefix(value)
		if addr, addrErr := netip.ParseAddr(value); addrErr == nil {
			proxy, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return nil, usage("--trusted-proxy: %q is neither a network, "+
				"such as 10.0.0.0/8, nor an address", value)
		}
		proxies = append(proxies, proxy.Masked())
	}
	return proxies, nil
}

// endOnSignal returns a context that ends with the first SIGTERM or SIGINT. A
// second one ends the program.
func endOnSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := supervise.Notify(os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-ctx.Done():
			signal.Stop(signals)
			return
		case s := <-signals:
			cancel(fmt.Errorf("got %v", s))
		}
		os.Exit(supervise.StatusOf(<-signals))
	}()
	return ctx, func() { cancel(nil) }
}
