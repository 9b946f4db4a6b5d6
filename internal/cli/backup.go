package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/internal/backup"
)

func newBackup(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Back up what a running server has",
		Long: `Back up the locks, cancelled marks and the history of a running server, as they
are at one instant, to FILE, or to stdout for -. The server goes on meanwhile.
This needs the key of an admin. API keys are not in the backup.

FILE appears, or is replaced, once the backup is whole, checked and on the disk;
only its owner may read it. A backup on stdout is whole if the exit status is 0.
'relukko verify' checks a backup, 'relukko restore' makes a store of it.`,
		Example: examples(
			"relukko backup /var/backups/relukko/$(date +%F)",
			"relukko backup - | zstd > relukko.zst",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeFile,
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, stop := endOnSignal()
			defer stop()
			if args[0] == "-" {
				return p.backup(ctx, p.Stdout)
			}
			return p.backupFile(ctx, args[0])
		},
	}
}

// backup writes a backup to out, and checks it.
func (p *program) backup(ctx context.Context, out io.Writer) error {
	c, err := p.client()
	if err != nil {
		return err
	}
	defer c.Close()
	read, write := io.Pipe()
	size := new(counter)
	ended := make(chan error, 1)
	go func() {
		err := c.Backup(ctx, io.MultiWriter(out, write, size))
		write.Close()
		ended <- err
	}()
	summary, err := backup.Check(read)
	read.CloseWithError(err)
	failure := <-ended
	switch {
	case ctx.Err() != nil:
		return failed("%v: the backup was not finished", context.Cause(ctx))
	case failure != nil && *size == 0:
		return explain(failure, c.BaseURL())
	case failure != nil && !errors.Is(failure, err):
		return failed("the backup broke off after %d bytes: %s", *size, plain(failure))
	case err != nil:
		return failed("what %s has sent is of no use: %s", c.BaseURL(), plain(err))
	}
	p.warn("backed up %v: %d bytes", summary, *size)
	return nil
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// backupFile writes a backup to a file at path, which appears once it is whole and durable.
func (p *program) backupFile(ctx context.Context, path string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return usage("%s is not a file: it would be replaced", printable(path))
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return failed("%s", plain(err))
	}
	defer os.Remove(f.Name())
	err = p.backup(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return failed("%s", plain(err))
}

// syncDir makes the entries of a directory durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // it cannot sync directories
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func newVerify(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Check that a backup is whole",
		Long: `Check that a backup is whole: FILE, or stdin for -. A file that is cut, or
damaged anywhere, is refused, and the message says where. The exit status is 0
for a backup that can be restored, and else 1.`,
		Example: examples(
			"relukko verify /var/backups/relukko/2026-11-26",
			"zstd -dc relukko.zst | relukko verify -",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeFile,
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := p.openBackup(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			summary, err := backup.Check(f)
			if err != nil {
				return failed("%s: %s", named(args[0]), plain(err))
			}
			return printed(fmt.Fprintf(p.Stdout, "%s is whole: %v\n", named(args[0]), summary))
		},
	}
}
