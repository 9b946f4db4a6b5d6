package httpapi

import (
	"context"
	"net/http"
	"time"

	"gitlab.com/relukko/relukko-go/internal/backup"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

// backupTimeout is how long the client of a backup may take for each piece.
const backupTimeout = 30 * time.Second

// backup sends what the store has. A backup that fails, or that the end of the server cuts off,
// lacks its end, and the connection is aborted.
func (a *api) backup(w http.ResponseWriter, r *http.Request, client *guard.Client) {
	if err := client.Check(access.Backup, &store.Lock{}); err != nil {
		a.fail(w, r, err, "")
		return
	}
	client.TakesBackup()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(a.stopped, cancel)()
	out := &pieces{w: w, control: http.NewResponseController(w)}
	err := a.engine.Dump(ctx, func(c *store.Content) error { return backup.Write(out, c) })
	switch {
	case err == nil:
	case !out.begun:
		a.fail(w, r, err, "")
	default:
		a.Log.Warn("a backup was not finished", "ip", a.clientAddress(r), "error", err)
		panic(http.ErrAbortHandler)
	}
}

// pieces writes a response that may take longer than others, as long as the client takes it.
type pieces struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (p *pieces) Write(b []byte) (int, error) {
	if !p.begun {
		p.begun = true
		p.w.Header().Set("Content-Type", "application/octet-stream")
	}
	_ = p.control.SetWriteDeadline(time.Now().Add(backupTimeout)) // where there is a connection
	return p.w.Write(b)
}
