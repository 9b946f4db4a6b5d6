package cli

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"gitlab.com/relukko/relukko-go/internal/settings"
)

const (
	envURL         = settings.BaseURL
	envKey         = settings.APIKey
	envKeyFile     = settings.APIKeyFile
	envTrust       = "RELUKKO_TRUST_ME_IT_IS_LOCKED"
	envLockName    = "RELUKKO_LOCK_NAME"  // set by relukko run
	envHeldLocks   = "RELUKKO_HELD_LOCKS" // set by relukko run
	envBindAddr    = "RELUKKO_BIND_ADDR"
	envDatabaseURL = "DATABASE_URL"
	envKeysFile    = "RELUKKO_KEYS_FILE"
	envStateDir    = "STATE_DIRECTORY" // set by systemd
)

// Invocation is one call of the program.
type Invocation struct {
	Args           []string // without the program's name
	Env            []string // as os.Environ returns it
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// program is an invocation with its global flags.
type program struct {
	Invocation
	url     string
	keyFile string
}

// getenv returns the value of an environment variable, "" where it is not set.
func (p *program) getenv(name string) string {
	for _, kv := range p.Env {
		if value, ok := strings.CutPrefix(kv, name+"="); ok {
			return value
		}
	}
	return ""
}

// settings looks up how this invocation reaches a backend.
func (p *program) settings() *settings.Lookup {
	return &settings.Lookup{Getenv: p.getenv, URL: p.url, KeyFile: p.keyFile}
}

// warn prints a line on stderr.
func (p *program) warn(format string, args ...any) {
	fmt.Fprintf(p.Stderr, "relukko: %s\n", fmt.Sprintf(format, args...))
}

// ignoreBrokenPipes makes a write to a broken pipe fail instead of ending the program,
// which may hold a lock. It does not affect what the program starts.
func ignoreBrokenPipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
