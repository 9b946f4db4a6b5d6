package cli

import (
	"crypto/sha256"
	"fmt"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/internal/settings"
	"gitlab.com/relukko/relukko-go/server/access"
)

const keyLong = `Make an API key of 32 random bytes, and print it. It is stored nowhere: give it
to those that may use it.

Without NAME it is a key for 'relukko serve --api-key-file' and RELUKKO_API_KEY,
which may do everything.

With NAME it is a key with rights of its own. Its line for the file of
'relukko serve --keys' has the key's hash, not the key. The line is printed on
stderr, or appended to --file: a server that runs accepts the key within 10 s.
Locks belong to the name of the key that created them; several keys may have one
name, so that one can replace another. The roles:

- viewer: reads all locks
- user: also creates locks, and renews, changes and deletes those of its name
- admin: also renews, changes and deletes those of others

A pattern limits the names of the locks that the key may create and change; *
stands for any characters. A key with several may lock what any of them matches.`

// keyFlags are those of relukko key new NAME.
type keyFlags struct {
	role, file string
	patterns   []string
}

func newKey(p *program) *cobra.Command {
	var f keyFlags
	cmd := &cobra.Command{
		Use:   "key new [NAME --role ROLE]",
		Short: "Make an API key",
		Long:  keyLong,
		Example: examples(
			"(umask 077 && relukko key new > relukko.key)",
			"relukko serve --addr 0.0.0.0 --api-key-file relukko.key",
			"relukko login http://that-machine:3000 < relukko.key",
			"relukko key new ada --role user --pattern 'bench-*' --file /etc/relukko/keys",
		),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] != "new" {
				return usage("there is no %q: relukko %s", "key "+args[0], cmd.Use)
			}
			return arguments(1, 2)(cmd, args)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string,
		) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []cobra.Completion{"new"}, cobra.ShellCompDirectiveNoFileComp
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.role, "role", "", "what the key may do: `role` viewer, user or admin")
	flags.StringArrayVar(&f.patterns, "pattern", nil,
		"`pattern` of the names that it may lock; may be repeated (default: any name)")
	flags.StringVar(&f.file, "file", "", "`file` of 'relukko serve --keys' to append the key to; "+
		"a new one is private")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(
		[]cobra.Completion{"viewer", "user", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return p.newNamedKey(args[1], &f)
		}
		if f.role != "" || f.file != "" || len(f.patterns) > 0 {
			return usage("--role, --pattern and --file are for a key with a name: " +
				"relukko key new NAME --role ROLE")
		}
		return printed(fmt.Fprintln(p.Stdout, settings.NewKey()))
	}
	return cmd
}

// newNamedKey makes a key for a file of keys. Nothing is printed unless it is in the file where it
// should be.
func (p *program) newNamedKey(name string, f *keyFlags) error {
	if f.role == "" {
		return usage("--role is missing: viewer, user or admin")
	}
	role, err := access.ParseRole(f.role)
	if err != nil {
		return usage("--role: %v", err)
	}
	secret := settings.NewKey()
	key := access.Key{
		Name: name, Role: role, Patterns: f.patterns, Hash: sha256.Sum256([]byte(secret)),
	}
	if err := key.Check(); err != nil {
		return usage("%v", err)
	}
	if f.file == "" {
		p.warn("the line for the file of relukko serve --keys:\n%s", &key)
	} else if err := appendKey(f.file, &key); err != nil {
		return failed("--file: %s", plain(err))
	}
	return printed(fmt.Fprintln(p.Stdout, secret))
}
