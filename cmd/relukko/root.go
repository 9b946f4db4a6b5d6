package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/spf13/cobra"
)

// execute runs the program and returns its exit status.
func execute(args []string, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	f, ours := errors.AsType[*failure](err)
	if !ours { // cobra itself: flags and arguments
		f = usage("%v", err)
	}
	if f.text != "" {
		fmt.Fprintf(stderr, "relukko: %s\n", f.text)
	}
	if f.status == statusUsage {
		fmt.Fprintf(stderr, "See '%s --help'.\n", cmd.CommandPath())
	}
	return f.status
}

// The commands are shown in the order in which they are added.
func init() { cobra.EnableCommandSorting = false }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "relukko",
		Short: "Locks that hold across machines",
		Long: `relukko guards programs with locks that hold across machines, shows and mends
the locks of a Relukko backend, and is such a backend.

The backend is the one that --url or RELUKKO_BASE_URL names, by default
http://localhost:3000. The API key comes from RELUKKO_API_KEY or from the file
that --api-key-file names, never from the command line, where everybody on the
machine can read it. REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE name a file or a
directory of CA certificates that are trusted besides the system's. When
RELUKKO_TRUST_ME_IT_IS_LOCKED is set, no backend is asked at all and every lock
is had at once.

Durations are written like 90s, 5m, 1h30m or 2d; a plain number is seconds.

Exit status: 0 when all went well, 1 when it did not, 64 for a wrong command
line, 69 when the backend refuses or cannot be reached, 75 when a lock was not
acquired in time, 76 when it was lost. 'relukko run' has some more.`,
		Example: `  # A backend on this machine, and something guarded by it
  relukko serve
  export RELUKKO_API_KEY=…        # the key that it printed
  relukko run robot-arm-1 -- ./calibrate.sh`,
		Version:           version(),
		Args:              cobra.NoArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.PersistentFlags().SortFlags = false
	target := new(target)
	root.PersistentFlags().StringVar(&target.url, "url", "", "base `URL` of the backend (default $RELUKKO_BASE_URL, else http://localhost:3000)")
	root.PersistentFlags().StringVar(&target.keyFile, "api-key-file", "", "`file` with the API key (default: the key is in $RELUKKO_API_KEY)")

	root.AddGroup(
		&cobra.Group{ID: "guard", Title: "Guard something:"},
		&cobra.Group{ID: "locks", Title: "See and mend the locks:"},
		&cobra.Group{ID: "backend", Title: "Be a backend:"},
		&cobra.Group{ID: "more", Title: "And:"},
	)
	root.SetHelpCommandGroupID("more")
	add := func(group string, commands ...*cobra.Command) {
		for _, cmd := range commands {
			cmd.GroupID = group
			cmd.Flags().SortFlags = false
			root.AddCommand(cmd)
		}
	}
	add("guard", newRun(target), newAcquire(target), newRelease(target))
	add("locks", newLs(target), newWatch(target), newGet(target), newRm(target), newExtend(target), newSet(target))
	add("backend", newServe(target), newHealth(target))
	add("more", newCompletion(), newVersion(), newDocs())
	return root
}

const many = math.MaxInt

// arguments refuses more or fewer arguments than there can be.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage("something is missing: %s", cmd.Parent().Name()+" "+cmd.Use)
		case len(args) > most:
			return usage("%q is too much: %s", args[most], cmd.Parent().Name()+" "+cmd.Use)
		}
		return nil
	}
}

// examples indents lines as cobra wants them.
func examples(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }
