package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/server"
)

const (
	envBindAddr    = "RELUKKO_BIND_ADDR"
	envDatabaseURL = "DATABASE_URL"

	defaultAddr = "127.0.0.1:3000"
	defaultPort = "3000"
)

// serveFlags are what the command line says.
type serveFlags struct {
	addr, store         string
	grace               time.Duration
	tlsCert, tlsKey     string
	logFormat, logLevel string
}

func newServe(t *target) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Be a backend",
		Long: `Be a Relukko backend, until SIGTERM or SIGINT.

The locks are kept in a file, through a crash and a loss of power (--store
bolt:PATH; one server at a time can use it), in PostgreSQL (--store or
DATABASE_URL with postgres://…; any number of servers over one database are one
backend), or in memory, until the server ends. A password in DATABASE_URL is not
seen by others on the machine, one on the command line is.

The API key comes from RELUKKO_API_KEY or the file that --api-key-file names;
there can be several, separated by commas or line breaks, so that clients can
change from one to the other. Without any, on a loopback address, one is made up
and printed; on any other address the server does not start.

The first line on stderr says where it listens and on which store. On SIGTERM or
SIGINT it takes no new work, tells those who wait for a lock to come again, and
ends within 5 s with exit status 0; on a second one it ends at once. A lock that
it has answered for is kept in any case.`,
		Example: examples(
			"relukko serve",
			"RELUKKO_API_KEY=new,old relukko serve --addr 0.0.0.0:3000 --tls-cert cert.pem --tls-key key.pem",
			"DATABASE_URL=postgres://relukko:secret@db/relukko relukko serve --addr 0.0.0.0 --api-key-file /run/secrets/relukko",
			"relukko serve --addr 127.0.0.1:0 --store memory    # for a try: on any free port",
		),
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.addr, "addr", "", "`address` to listen on, port 0 for any free one (default $RELUKKO_BIND_ADDR, else "+defaultAddr+")")
	flags.StringVar(&f.store, "store", "", "where the locks are kept: bolt:PATH, memory or postgres://… (default $DATABASE_URL, else a file in the user's state directory)")
	f.grace = 3 * time.Minute
	durationVar(cmd, &f.grace, "grace", "how long an expired lock still keeps its name")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "`file` with the certificate chain, in PEM, to speak TLS")
	flags.StringVar(&f.tlsKey, "tls-key", "", "`file` with the certificate's private key, in PEM")
	flags.StringVar(&f.logFormat, "log-format", "text", "`format` of the log on stderr: text or json")
	flags.StringVar(&f.logLevel, "log-level", "info", "`level` from which on things are logged: debug (every request), info, warn or error")
	_ = cmd.RegisterFlagCompletionFunc("log-format", cobra.FixedCompletions([]cobra.Completion{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]cobra.Completion{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if t.url != "" {
			return usage("--url is for clients; what serve listens on is --addr")
		}
		return serve(f, t.keyFile)
	}
	return cmd
}

// serve returns when the server has ended.
func serve(f serveFlags, keyFile string) error {
	log, err := newServeLog(os.Stderr, f.logFormat, f.logLevel)
	if err != nil {
		return err
	}
	keys, err := serveKeys(keyFile)
	if err != nil {
		return err
	}
	certificate, err := serveTLS(f.tlsCert, f.tlsKey)
	if err != nil {
		return err
	}
	spec, err := storeSpec(f.store)
	if err != nil {
		return err
	}
	ctx, ended := endOnSignal()
	defer ended()
	brokenPipes() // who reads the log may go away

	l, err := net.Listen("tcp", bindAddr(f.addr))
	if err != nil {
		return failed("cannot listen: %v", err)
	}
	defer l.Close()
	madeUp := ""
	if len(keys) == 0 {
		if madeUp, err = makeUpKey(l.Addr()); err != nil {
			return err
		}
		keys = []string{madeUp}
	}
	store, err := openStore(ctx, spec, log.Logger)
	if ctx.Err() != nil {
		if err == nil {
			store.Close()
		}
		return nil // it was told to end before it had begun
	}
	if err != nil {
		return failed("%s", plain(err))
	}
	log.listening(l.Addr(), certificate != nil, spec)
	if madeUp != "" {
		log.madeUpKey(madeUp)
	}
	backend := server.New(store, server.WithAPIKeys(keys...), server.WithGrace(f.grace), server.WithLogger(log.Logger))
	s := newService(backend, store, certificate, log.Logger)
	err = s.run(ctx, l)
	if err != nil {
		return failed("%s", plain(err))
	}
	return nil
}

// storeSpec is what the flag, the environment or the default says about the store.
func storeSpec(flag string) (string, error) {
	if flag != "" {
		return flag, checkStore("--store", flag)
	}
	if url := os.Getenv(envDatabaseURL); url != "" {
		if !isPostgres(url) {
			return "", usage("%s does not begin with postgres://. To keep the locks elsewhere, use --store", envDatabaseURL)
		}
		return url, nil
	}
	path, err := defaultStorePath()
	if err != nil {
		return "", err
	}
	return boltPrefix + path, nil
}

// bindAddr is where to listen. RELUKKO_BIND_ADDR, as the original backend has
// it, may come without a port, and so may the flag.
func bindAddr(flag string) string {
	addr := flag
	if addr == "" {
		addr = os.Getenv(envBindAddr)
	}
	if addr == "" {
		return defaultAddr
	}
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	if n := len(addr); addr[0] == '[' && addr[n-1] == ']' {
		addr = addr[1 : n-1]
	}
	return net.JoinHostPort(addr, defaultPort)
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// makeUpKey makes a key for a server at addr.
func makeUpKey(addr net.Addr) (string, error) {
	if !isLoopback(addr) {
		return "", usage("no API key: %s can be reached by others, so set %s, or name a file that holds keys with --api-key-file", addr, envKey)
	}
	return randomKey(), nil
}

// serveKeys returns the keys that are configured; none where nothing is said.
func serveKeys(file string) ([]string, error) {
	if file != "" {
		return readKeys(file)
	}
	value := os.Getenv(envKey)
	keys := splitKeys(value)
	if value != "" && len(keys) == 0 {
		return nil, usage("%s is set, but there is no key in it", envKey)
	}
	return keys, nil
}

// endOnSignal returns a context that ends with the first SIGTERM or SIGINT. A
// second one ends the program.
func endOnSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := notify(terminating...)
	go func() {
		cancel(fmt.Errorf("got %v", <-signals))
		os.Exit(statusOf(<-signals))
	}()
	return ctx, func() { cancel(nil) }
}
