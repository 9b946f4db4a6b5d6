package stream_test

import (
	"context"
	"crypto/sha256"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// TestTooManyAcquiresAreAnOutage: a Lock beyond the limit of its key's name goes on until there is
// capacity for it, and says what is full if it ends before.
func TestTooManyAcquiresAreAnOutage(t *testing.T) {
	for name, limit := range map[string]server.Option{
		"--max-acquires": server.WithMaxAcquires(1), "--max-requests": server.WithMaxRequests(2),
	} {
		t.Run(name, func(t *testing.T) {
			srv := server.New(memstore.New(), limit, server.WithKeys(access.Key{
				Name: "ada", Role: access.User, Hash: sha256.Sum256([]byte("ada"))}))
			web := httptest.NewServer(srv)
			defer web.Close()
			defer srv.Shutdown(context.Background())
			client, err := api.New(web.URL, "ada")
			require.NoError(t, err)
			defer client.Close()
			held, err := relukko.NewMutex(client, "a").Lock(t.Context())
			require.NoError(t, err)
			session, _ := relukko.FromContext(held)
			queued := make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			waits := make(chan struct{}, 1)
			go func() {
				_, err := relukko.NewMutex(client, "a", relukko.WithOnWait(func(relukko.Waiting) {
					select {
					case waits <- struct{}{}:
					default:
					}
				})).Lock(ctx)
				queued <- err
			}()
			<-waits
			short, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			defer cancel()
			for short.Err() == nil { // until one is refused for as long as it tries
				var other context.Context
				other, err = relukko.NewMutex(client, "b").Lock(short)
				if err == nil {
					session, _ := relukko.FromContext(other)
					require.NoError(t, session.Unlock())
				}
			}
			require.ErrorContains(t, err, name)
			stop()
			require.Error(t, <-queued)
			other, err := relukko.NewMutex(client, "b").Lock(t.Context())
			require.NoError(t, err)
			require.NoError(t, context.Cause(held))
			second, _ := relukko.FromContext(other)
			require.NoError(t, second.Unlock())
			require.NoError(t, session.Unlock())
		})
	}
}
