package api

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Backup writes all that the backend's store has to w, as it is at one instant: locks, cancelled
// marks and the history, but no API keys. This needs the key of an admin. The command relukko
// restores such a backup.
//
// Backup makes one attempt, which may take long; it ends when nothing has come for 60 s. After an
// error, what was written is of no use. The error is [ErrUnsupported] if the backend cannot be
// backed up, and that of w if w has failed.
func (c *Client) Backup(ctx context.Context, w io.Writer, opts ...CallOption) error {
	k := &call{verb: "take a backup", path: wire.BackupPath, once: true}
	if c.trusted {
		return &failure{op: k.op(), err: errors.New("there is no backend in trust mode")}
	}
	var failed error // of w
	k.copy = func(body io.Reader) error {
		_, err := io.Copy(&guarded{w, &failed}, body)
		return err
	}
	err := c.ask(ctx, k, opts)
	if failed != nil {
		return fmt.Errorf("relukko: %s: %w", k.op(), failed)
	}
	return err
}

// guarded is a writer that keeps its error.
type guarded struct {
	io.Writer
	failed *error
}

func (g *guarded) Write(b []byte) (int, error) {
	n, err := g.Writer.Write(b)
	*g.failed = err
	return n, err
}
