package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

const (
	envURL = "RELUKKO_BASE_URL"
	envKey = "RELUKKO_API_KEY"
)

// target is the backend that the global flags and the environment name.
type target struct {
	url     string
	keyFile string
}

// client returns a client of the backend. The flags win over the environment.
func (t *target) client(opts ...api.Option) (*api.Client, error) {
	if t.keyFile != "" {
		keys, err := readKeys(t.keyFile)
		if err != nil {
			return nil, err
		}
		os.Setenv(envKey, keys[0])
	}
	return t.fromEnv(opts)
}

// keyless is client for what needs no key.
func (t *target) keyless(opts ...api.Option) (*api.Client, error) {
	os.Setenv(envKey, "none") // so that FromEnv does not ask for one
	return t.fromEnv(opts)
}

// fromEnv sets the environment of this process, which has no other use for it,
// since only api.FromEnv knows all that is in there.
func (t *target) fromEnv(opts []api.Option) (*api.Client, error) {
	if t.url != "" {
		os.Setenv(envURL, t.url)
	}
	c, err := api.FromEnv(append(opts, api.WithLogger(slog.New(warnings{})))...)
	switch {
	case err == nil:
		return c, nil
	case os.Getenv(envKey) == "":
		return nil, usage("no API key: set %s, or name a file that holds one with --api-key-file", envKey)
	case t.url != "":
		return nil, usage("%s", strings.Replace(plain(err), envURL, "--url", 1))
	}
	return nil, usage("%s", plain(err))
}

// readKeys reads the keys in a file: separated by commas or line breaks, at
// least one.
func readKeys(file string) ([]string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, usage("--api-key-file: %v", err)
	}
	keys := splitKeys(string(content))
	if len(keys) == 0 {
		return nil, usage("--api-key-file: there is no key in %s", file)
	}
	return keys, nil
}

func splitKeys(s string) []string {
	var keys []string
	for key := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		if key = strings.TrimSpace(key); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// asking is a command that asks the backend a few things and is done.
type asking struct {
	*target
	timeout time.Duration
}

func newAsking(cmd *cobra.Command, t *target) *asking {
	a := &asking{target: t, timeout: 5 * time.Second}
	durationVar(cmd, &a.timeout, "timeout", "how long to try, while the backend does not answer")
	return a
}

// do calls f with a client, and words what goes wrong.
func (a *asking) do(cmd *cobra.Command, f func(ctx context.Context, c *api.Client) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	return a.with(c, f)
}

func (a *asking) with(c *api.Client, f func(ctx context.Context, c *api.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
	defer cancel()
	defer c.Shutdown(ctx)
	err := f(ctx, c)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return &failure{statusUnavailable, tooLate(err, c.BaseURL(), a.timeout)}
	}
	return explain(err, c.BaseURL())
}

// tooLate words that the time was over while a request was under way, and what
// came of those before, if there were any.
func tooLate(err error, base string, timeout time.Duration) string {
	text := fmt.Sprintf("no answer from %s within %s", base, short(timeout))
	if _, before, ok := strings.Cut(plain(err), "(before that: "); ok {
		return text + " (before that: " + before
	}
	return text + ". Is the address right, and is the network up?"
}

// warnings is a slog.Handler that says on stderr what the client warns of, which
// is trust mode.
type warnings struct{}

func (warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (warnings) Handle(_ context.Context, r slog.Record) error {
	_, err := fmt.Fprintf(os.Stderr, "relukko: %s\n", strings.TrimPrefix(r.Message, "relukko: "))
	return err
}

func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w warnings) WithGroup(string) slog.Handler      { return w }
