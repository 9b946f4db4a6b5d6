// Package cli is the command line: it runs one [Invocation] of the program
// relukko and returns its exit status.
package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/internal/settings"
)

// Run runs a command and returns the exit status of the program. The process
// should end after it: a lock that relukko acquire leaves held is renewed until
// then, and signals stay caught.
func Run(i Invocation) int {
	p := &program{Invocation: i}
	root := newRoot(p)
	root.SetArgs(append([]string{}, i.Args...)) // nil would be os.Args
	root.SetIn(i.Stdin)
	root.SetOut(i.Stdout)
	root.SetErr(i.Stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	f, ok := errors.AsType[*failure](err)
	if !ok { // from cobra: flags and arguments
		f = usage("%v", err)
	}
	if f.text == "" {
		return f.status
	}
	p.warn("%s", f)
	if f.status == statusUsage {
		fmt.Fprintf(p.Stderr, "See '%s --help'.\n", cmd.CommandPath())
	}
	return f.status
}

// Command returns the root of all commands, for what documents them.
func Command() *cobra.Command { return newRoot(new(program)) }

// The commands are shown in the order in which they are added.
func init() { cobra.EnableCommandSorting = false }

const rootLong = `relukko runs programs while they hold a lock that excludes others on all
machines. It shows and edits the locks of a Relukko backend, and it can be that
backend.

The backend is the one that --url or RELUKKO_BASE_URL names, by default
http://localhost:3000; unix:///run/relukko.sock is one on a Unix socket. The API
key comes from the file that --api-key-file or RELUKKO_API_KEY_FILE names, or from
RELUKKO_API_KEY, never from the command line, which everybody on the machine can
read. Of several keys, as a server has them, clients use the first. What is not
set may stand in the user's file, ~/.config/relukko/client.env, which 'relukko
login' writes, or in the machine's, /etc/relukko/client.env. The key of 'relukko
serve' of the same user, at its default address or on a Unix socket, is found
without any of that. 'relukko status' says what is used and where it comes from.

REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE name a file or a directory of CA
certificates that are trusted besides those of the system. When
RELUKKO_TRUST_ME_IT_IS_LOCKED is set, nothing is locked: no request is made and
every lock is granted immediately.

Durations are written like 90s, 5m, 1h30m or 2d; a plain number is seconds.

Exit status: 0 on success, 1 on failure, 64 for a wrong command line, 69 when
the backend refuses or cannot be reached, 75 when a lock was not acquired in
time, 76 when it was lost. 'relukko run' has more.`

func newRoot(p *program) *cobra.Command {
	_, all := version()
	root := &cobra.Command{
		Use:   "relukko",
		Short: "Locks that exclude across machines",
		Long:  rootLong,
		Example: `  # A backend on this machine, and a command that holds a lock
  relukko serve
  relukko run robot-arm-1 -- sleep 10    # in another terminal`,
		Version:           all,
		Args:              cobra.NoArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVar(&p.url, "url", "",
		"base `URL` of the backend (default $RELUKKO_BASE_URL, else "+settings.DefaultURL()+")")
	flags.StringVar(&p.keyFile, "api-key-file", "",
		"`file` with the API key (default: $RELUKKO_API_KEY, $RELUKKO_API_KEY_FILE, …)")

	add := func(id, title string, commands ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, cmd := range commands {
			cmd.GroupID = id
			cmd.Flags().SortFlags = false
			root.AddCommand(cmd)
		}
	}
	add("guard", "Hold a lock:", newRun(p), newAcquire(p), newHold(p), newRelease(p))
	add("locks", "Show and edit the locks:",
		newLs(p), newWatch(p), newGet(p), newRm(p), newExtend(p), newSet(p),
		newQueue(p), newHistory(p), newUsage(p))
	add("backend", "Backend:", newServe(p), newKey(p), newLogin(p), newStatus(p), newHealth(p))
	add("copies", "Backups:", newBackup(p), newVerify(p), newRestore(p), newMove(p))
	add("more", "More:", newCompletion(p), newVersion(p), newDocs())
	root.SetHelpCommandGroupID("more")
	return root
}
