package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/backup"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// dumping is a store whose Dump is given.
type dumping struct {
	store.Store
	dump func(ctx context.Context, use func(*store.Content) error) error
}

func (d dumping) Dump(ctx context.Context, use func(*store.Content) error) error {
	return d.dump(ctx, use)
}

// endless is content without an end.
func endless(_ context.Context, use func(*store.Content) error) error {
	return use(&store.Content{History: func(yield func(store.Ended, error) bool) {
		for yield(store.Ended{Ending: store.Ending{Reason: strings.Repeat("x", 1000)}}, nil) {
		}
	}})
}

// TestABackupHasWhatTheStoreHas, and the audit log has who took it.
func TestABackupHasWhatTheStoreHas(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var audit bytes.Buffer
		b := start(t, server.WithKeys(someKeys...),
			server.WithAuditLog(slog.New(slog.NewTextHandler(&audit, nil))))
		b.create("robot-arm-1", "Ada")
		gone := b.create("robot-arm-2", "Ada")
		b.do(200, "DELETE", "/v1/locks/"+gone.ID, "")
		audit.Reset()
		r := b.send(t.Context(), "GET", "/v1/backup", "",
			"X-API-KEY", "root admin", "User-Agent", "curl")
		require.NoError(t, r.err)
		require.Equal(t, 200, r.status)
		s, err := backup.Check(strings.NewReader(r.body))
		require.NoError(t, err)
		require.Equal(t, 1, s.Locks)
		require.Equal(t, 1, s.Ended)
		require.NotContains(t, r.body, apiKey)
		require.Contains(t, audit.String(), `msg="a backup is taken" action=backup key=root `+
			`role=admin ip=192.0.2.7 user_agent=curl`)
		audit.Reset()
		r = b.send(t.Context(), "GET", "/v1/backup", "", "X-API-KEY", "ada user")
		require.Equal(t, 403, r.status)
		require.Contains(t, r.body,
			`backup: the key \"ada\" has the role user: this needs the role admin`)
		require.Contains(t, audit.String(), "level=WARN msg=refused action=backup key=ada")
	})
}

// TestABackupThatCannotBegin has a status.
func TestABackupThatCannotBegin(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := startOn(t, dumping{memstore.New(),
			func(context.Context, func(*store.Content) error) error { return store.ErrUnavailable },
		})
		b.do(503, "GET", "/v1/backup", "")
		b = startOn(t, struct{ store.Store }{memstore.New()})
		r := b.do(501, "GET", "/v1/backup", "")
		require.Contains(t, r.body, "the store of this server cannot be backed up")
	})
}

// TestABackupThatBreaksOff is no whole response, whatever ends it: the store, the server, or a
// client that takes nothing.
func TestABackupThatBreaksOff(t *testing.T) {
	for name, test := range map[string]struct {
		dump func(ctx context.Context, use func(*store.Content) error) error
		then func(b *backend)
	}{
		"store": {func(_ context.Context, use func(*store.Content) error) error {
			return use(&store.Content{History: func(yield func(store.Ended, error) bool) {
				for range 10_000 {
					yield(store.Ended{}, nil)
				}
				yield(store.Ended{}, errors.New("the disk is broken"))
			}})
		}, func(*backend) {}},
		"server": {func(ctx context.Context, use func(*store.Content) error) error {
			return use(&store.Content{History: func(yield func(store.Ended, error) bool) {
				for range 10_000 {
					yield(store.Ended{}, nil)
				}
				<-ctx.Done()
				yield(store.Ended{}, ctx.Err())
			}})
		}, func(b *backend) {
			time.Sleep(time.Second)
			require.NoError(b.t, b.srv.Shutdown(b.t.Context()))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := startOn(t, dumping{memstore.New(), test.dump})
				got := make(chan reply)
				go func() { got <- b.send(t.Context(), "GET", "/v1/backup", "") }()
				test.then(b)
				r := <-got
				require.ErrorIs(t, r.err, io.ErrUnexpectedEOF)
				_, err := backup.Check(strings.NewReader(r.body))
				require.ErrorContains(t, err, "the backup is cut short")
			})
		})
	}
}

// TestABackupMayTakeLong, longer than other responses, but not without progress.
func TestABackupMayTakeLong(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := startIn(t, &http.Server{WriteTimeout: time.Minute},
			dumping{memstore.New(), endless}, server.WithGrace(0))
		req, err := http.NewRequestWithContext(
			t.Context(), "GET", "http://relukko.test/v1/backup", nil)
		require.NoError(t, err)
		req.Header.Set("X-API-KEY", apiKey)
		resp, err := b.tr.RoundTrip(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		piece := make([]byte, 256<<10)
		for range 100 {
			_, err = io.ReadFull(resp.Body, piece)
			require.NoError(t, err)
			time.Sleep(20 * time.Second)
		}
		time.Sleep(31 * time.Second)
		_, err = io.Copy(io.Discard, resp.Body)
		require.Error(t, err)
	})
}
