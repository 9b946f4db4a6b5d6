package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/settings"
	"gitlab.com/relukko/relukko-go/internal/unixsock"
)

// client returns a client of the backend that is configured.
func (p *program) client() (*api.Client, error) {
	look := p.settings()
	url, err := look.BaseURL()
	if err != nil {
		return nil, usage("%s", plain(err))
	}
	key, err := look.Key(url.Value)
	if err != nil && p.getenv(envTrust) == "" {
		return nil, explainKey(err)
	}
	return p.clientOf(url, key)
}

// keylessClient is client without a key, for [api.Client.Health].
func (p *program) keylessClient() (*api.Client, error) {
	url, err := p.settings().BaseURL()
	if err != nil {
		return nil, usage("%s", plain(err))
	}
	return p.clientOf(url, settings.Setting{})
}

// explainKey returns the failure for an error of [settings.Lookup.Key].
func explainKey(err error) *failure {
	f := usage("%s", plain(err))
	if _, none := errors.AsType[*settings.NoKeyError](err); none {
		f.advice = "The flag --api-key-file names a file with one"
	}
	return f
}

// clientOf returns a client of the backend at url.
func (p *program) clientOf(url, key settings.Setting, options ...api.Option) (*api.Client, error) {
	roots, err := api.RootCAsFromEnv()
	if err != nil && p.getenv(envTrust) == "" {
		return nil, usage("%s", plain(err))
	}
	base := url.Value
	if _, isSocket, _ := unixsock.Parse(base); !isSocket &&
		!strings.Contains(base, "://") && !strings.Contains(base, "@") { // else it has a password
		if strings.HasPrefix(base, "/") {
			return nil, usage("%s: %q is a path: for a Unix socket write unix://%[2]s",
				url.Origin, printable(base))
		}
		return nil, usage("%s: %q has no scheme: write http://%[2]s, or https://%[2]s",
			url.Origin, printable(base))
	}
	options = append(options, api.WithRootCAs(roots), api.WithLogger(slog.New(warnings{p})))
	c, err := api.New(base, key.Value, options...)
	if err != nil {
		return nil, usage("%s: %s", url.Origin, plain(err))
	}
	return c, nil
}

// asking is a command that sends the backend a few requests.
type asking struct {
	*program
	timeout time.Duration
}

func newAsking(cmd *cobra.Command, p *program) *asking {
	a := &asking{program: p, timeout: 5 * time.Second}
	durationVar(cmd, &a.timeout, "timeout", "how long to retry while the backend does not answer")
	return a
}

// do calls f with a client and explains its error.
func (a *asking) do(f func(ctx context.Context, c *api.Client) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	return a.with(c, f)
}

func (a *asking) with(c *api.Client, f func(ctx context.Context, c *api.Client) error) error {
	return a.at(c.BaseURL(), c, f)
}

// at is with for a backend that errors call base.
func (a *asking) at(
	base string, c *api.Client, f func(ctx context.Context, c *api.Client) error,
) error {
	ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
	defer cancel()
	defer c.Shutdown(ctx)
	return a.within(ctx, base, f(ctx, c))
}

// history returns a function that asks for one page of the history. Each page has the whole
// time-out: there may be many.
func (a *asking) history(c *api.Client) func(api.HistoryQuery) ([]api.Ended, error) {
	return func(q api.HistoryQuery) ([]api.Ended, error) {
		ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
		defer cancel()
		page, err := c.History(ctx, q)
		return page, a.within(ctx, c.BaseURL(), err)
	}
}

// within explains an error that came within ctx.
func (a *asking) within(ctx context.Context, base string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return tooLate(err, base, a.timeout)
	}
	return explain(err, base)
}

// tooLate is for a time-out that ended a request. It says what came of the
// attempts before, if there were any.
func tooLate(err error, base string, timeout time.Duration) *failure {
	text := fmt.Sprintf("no answer from %s within %s", base, short(timeout))
	if last := api.LastAttempt(err); last != nil {
		before := explain(last, base)
		return &failure{statusUnavailable, text + "; before that: " + before.text, before.advice}
	}
	return &failure{statusUnavailable, text, checkNetwork}
}

// warnings is a slog.Handler that prints the warnings of a client, which has one:
// that of trust mode.
type warnings struct{ *program }

func (warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (w warnings) Handle(_ context.Context, r slog.Record) error {
	w.warn("%s", strings.TrimPrefix(r.Message, "relukko: "))
	return nil
}

func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w warnings) WithGroup(string) slog.Handler      { return w }
