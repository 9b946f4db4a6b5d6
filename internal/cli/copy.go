package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/internal/backup"
	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// storeFlag returns the store of a flag that must name one that outlives the server.
func storeFlag(flag, spec string) (string, error) {
	path, bolt := strings.CutPrefix(spec, boltPrefix)
	if bolt && path != "" || isPostgres(spec) {
		return spec, nil
	}
	return "", usage("%s: give bolt:PATH or postgres://…", flag)
}

// dump calls use with what a store has that no server uses.
func dump(ctx context.Context, spec string, use func(*store.Content) error) (err error) {
	path, bolt := strings.CutPrefix(spec, boltPrefix)
	if !bolt {
		return pgstore.Dump(ctx, spec, use)
	}
	if _, err := os.Stat(path); err != nil { // Open would make the file
		return err
	}
	s, err := boltstore.Open(path, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Dump(ctx, use)
}

// load puts content into a new store, all of it or nothing, and returns how much that was.
func load(ctx context.Context, spec string, c *store.Content) (*backup.Summary, error) {
	history := c.History
	c.History = func(yield func(store.Ended, error) bool) {
		for e, err := range history {
			if err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if !yield(e, err) {
				return
			}
		}
	}
	s := backup.Summarize(c)
	if path, bolt := strings.CutPrefix(spec, boltPrefix); bolt {
		return s, boltstore.Load(path, c)
	}
	return s, pgstore.Load(ctx, spec, c)
}

// openBackup opens the file at path, or stdin for "-".
func (p *program) openBackup(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(p.Stdin), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, failed("%s", plain(err))
	}
	return f, nil
}

// completeFile completes the argument FILE.
func completeFile(
	_ *cobra.Command, args []string, _ string,
) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// named names the file in a message.
func named(path string) string {
	if path == "-" {
		return "stdin"
	}
	return printable(path)
}

// keyStays says where the API key is that a server with the store made, if there is one.
func (p *program) keyStays(spec string) {
	path := p.keyPath(spec)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) || path == "" {
		return
	}
	p.warn("the API key that relukko serve has made stays in %s: a server that is to accept it "+
		"needs --api-key-file %[1]s", printable(path))
}
