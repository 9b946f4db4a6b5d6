package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/internal/backup"
	"gitlab.com/relukko/relukko-go/server/store"
)

const restoreLong = `Make a store of a backup: of FILE, or of stdin for -. The store must not exist
or, in PostgreSQL, be empty, and no server may use it. All is restored, or
nothing: what a crash leaves is a file PATH.new-…, which nobody takes for a
store.

The locks are those that were held at the time of the backup. Their leases went
on meanwhile; those that are over are swept soon after a server has started.
Holders of locks that are not in the backup lose them, and are told with their
next heartbeat. Fencing tokens go on rising.

A backup has no API keys. Others on the machine can read a password on the
command line, but not one in PGPASSWORD or ~/.pgpass.`

func newRestore(p *program) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "restore FILE --to STORE",
		Short: "Make a store of a backup",
		Long:  restoreLong,
		Example: examples(
			"relukko restore /var/backups/relukko/2026-11-26 --to bolt:/var/lib/relukko/locks.db",
			"zstd -dc relukko.zst | relukko restore - --to postgres://relukko@db/relukko",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeFile,
	}
	cmd.Flags().StringVar(&to, "to", "", "the new `store`: bolt:PATH or postgres://…")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		spec, err := storeFlag("--to", to)
		if err != nil {
			return err
		}
		f, err := p.openBackup(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		ctx, stop := endOnSignal()
		defer stop()
		c, err := backup.Read(f)
		if err != nil {
			return notLoaded(named(args[0]), spec, err)
		}
		summary, err := load(ctx, spec, c)
		if err != nil {
			return notLoaded(named(args[0]), spec, err)
		}
		return printed(fmt.Fprintf(p.Stdout, "%s has %v\n", showStore(spec), summary))
	}
	return cmd
}

func notLoaded(from, to string, err error) *failure {
	return failed("%s: %s. Nothing was put into %s", from, databaseError(err), showStore(to))
}

const moveLong = `Move what a store has to a new one: the locks with their ids, fencing tokens,
which go on rising, cancelled marks and the history. No server may use either of
the two. The new one must not exist or, in PostgreSQL, be empty. All is moved,
or nothing.

The old store stays as it is, so that you can go back as long as no server has
used the new one. From then on start none on the old one: it would grant names
that are held in the new one.

API keys are not in the stores. A key that relukko serve has made stays where it
is, PATH.key beside the old file or in the user's state directory: give it to
the server with --api-key-file. Others on the machine can read a password on the
command line, but not one in PGPASSWORD or ~/.pgpass.`

func newMove(p *program) *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "move --from STORE --to STORE",
		Short: "Move what a store has to another one",
		Long:  moveLong,
		Example: examples(
			"relukko move --from bolt:/var/lib/relukko/locks.db --to postgres://relukko@db/relukko",
		),
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&from, "from", "", "the old `store`: bolt:PATH or postgres://…")
	cmd.Flags().StringVar(&to, "to", "", "the new `store`: bolt:PATH or postgres://…")
	cmd.RunE = func(*cobra.Command, []string) error {
		ctx, stop := endOnSignal()
		defer stop()
		return p.move(ctx, from, to)
	}
	return cmd
}

func (p *program) move(ctx context.Context, from, to string) error {
	from, err := storeFlag("--from", from)
	if err != nil {
		return err
	}
	to, err = storeFlag("--to", to)
	switch {
	case err != nil:
		return err
	case from == to:
		return usage("--from and --to are the same store")
	}
	var summary *backup.Summary
	err = dump(ctx, from, func(c *store.Content) (err error) {
		summary, err = load(ctx, to, c)
		return err
	})
	if err != nil {
		return notLoaded(showStore(from), to, err)
	}
	if p.keyPath(from) != p.keyPath(to) {
		p.keyStays(from)
	}
	return printed(fmt.Fprintf(p.Stdout, "%s has %v; %s stays as it is: start no server on it\n",
		showStore(to), summary, showStore(from)))
}
