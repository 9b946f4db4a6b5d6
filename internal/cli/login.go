package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/settings"
	"gitlab.com/relukko/relukko-go/internal/supervise"
)

func newLogin(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "login URL",
		Short: "Store the address of a backend and its API key",
		Long: `Ask for the API key of the backend at URL, check it there, and store both in
$XDG_CONFIG_HOME/relukko/client.env, by default ~/.config/relukko/client.env.
Every command of this user then uses them, and every Go program that calls
api.FromEnv. Only this user can read the file; what else is in it is kept.

The key is read from the terminal without showing it, or else from the first
line of stdin. A key that is refused is not stored.

The file has the syntax of systemd's EnvironmentFile. For all users of a machine
there can be one with the same names in /etc/relukko/client.env.`,
		Example: examples(
			"relukko login https://relukko.example",
			"relukko login http://bench-7:3000 < relukko.key",
			"relukko login unix:///run/relukko/relukko.sock",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	ask := newAsking(cmd, p)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if p.url != "" || p.keyFile != "" {
			return usage("login has neither --url nor --api-key-file: " +
				"relukko login URL, and the key on stdin")
		}
		return ask.login(args[0])
	}
	return cmd
}

func (a *asking) login(base string) error {
	file := settings.UserFile(a.getenv)
	switch {
	case a.getenv(envTrust) != "":
		return usage("%s is set, so the key cannot be checked", envTrust)
	case file == "":
		return usage("there is no directory for the key, as HOME is not set")
	}
	url := settings.Setting{Value: base, Origin: "login"}
	c, err := a.clientOf(url, settings.Setting{}) // is the URL one, before the key is asked for?
	if err != nil {
		return err
	}
	c.Close()
	key, err := a.readSecret("API key for " + c.BaseURL() + ": ")
	if err != nil {
		return err
	}
	if c, err = a.clientOf(url, settings.Setting{Value: key}); err != nil {
		return err
	}
	err = a.with(c, func(ctx context.Context, c *api.Client) error {
		_, err := c.List(ctx)
		return err
	})
	if err != nil {
		return err
	}
	err = settings.SetInFile(file, settings.Assignment{Name: settings.BaseURL, Value: base},
		settings.Assignment{Name: settings.APIKey, Value: key},
		settings.Assignment{Name: settings.APIKeyFile})
	if err != nil {
		return failed("%s", plain(err))
	}
	for _, name := range []string{envURL, envKey, envKeyFile} {
		if a.getenv(name) != "" {
			a.warn("%s is set, and wins over what was stored", name)
		}
	}
	return printed(fmt.Fprintf(a.Stdout, "%s accepts the key; stored in %s\n", c.BaseURL(), file))
}

// readSecret reads a key: from a terminal without an echo, else the first line.
func (p *program) readSecret(prompt string) (string, error) {
	var line string
	var err error
	if f, ok := p.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(p.Stderr, prompt)
		line, err = readWithoutEcho(int(f.Fd()))
		fmt.Fprintln(p.Stderr)
	} else {
		line, err = bufio.NewReader(io.LimitReader(p.Stdin, 64<<10)).ReadString('\n')
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	keys := settings.SplitKeys(line)
	switch {
	case err != nil:
		return "", failed("the key cannot be read: %s", plain(err))
	case len(keys) == 0:
		return "", usage("there is no key on stdin")
	case len(keys) > 1 || strings.Contains(line, ","):
		return "", usage("a client has one key, and no key has a comma in it")
	}
	return keys[0], nil
}

// readWithoutEcho reads a line from a terminal. Ctrl-C ends the program, with the echo
// on again.
func readWithoutEcho(terminal int) (string, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	signals := supervise.Catch()
	defer signal.Stop(signals)
	type answer struct {
		line []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(terminal)
		read <- answer{line, err}
	}()
	select {
	case a := <-read:
		return string(a.line), a.err
	case sig := <-signals:
		_ = term.Restore(terminal, before)
		return "", &failure{status: supervise.EndBy(sig)}
	}
}
