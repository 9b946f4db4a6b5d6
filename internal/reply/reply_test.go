package reply

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

func TestRefusals(t *testing.T) {
	notDone := fmt.Errorf("no connection: %w: %w", store.ErrUnavailable, store.ErrNotDone)
	for _, row := range []struct {
		err     error
		status  int
		message string
		later   bool
	}{
		{store.ErrGone, 404, `there is no lock "a": it was released or has expired`, false},
		{store.ErrHeld, 409, `lock "a" is held`, false},
		{fmt.Errorf("x: %w", store.ErrHeld), 409, `lock "a" is held`, false},
		{store.ErrCancelled, 410,
			`the acquire of lock "a" was cancelled: acquire with a new mark`, false},
		{store.ErrOutOfRange, 400,
			`lock "a": expires_at would lie outside of the years 1 to 9999`, false},
		{notDone, 503, `lock "a": the store is unavailable: try again`, true},
		{engine.ErrClosing, 503, `lock "a": the server is shutting down`, false},
		{engine.ErrFull, 503,
			`lock "a": too many requests wait on this server (--max-waiters): try again later`,
			true},
		{&wire.RequestError{Message: "no name"}, 400, "no name", false},
		{
			errors.New("disk full"), 500, `lock "a": internal error: see the server's log`,
			false,
		},
	} {
		got := Refuse(row.err, Name("a"))
		require.Equal(t, row.status, got.Status)
		require.Equal(t, row.message, got.Message)
		require.Equal(t, row.later, got.Later)
		require.NotZero(t, got.Level)
	}
	require.Equal(t, "the store is unavailable: try again",
		Refuse(store.ErrUnavailable, "").Message)
	require.Equal(t, `lock "a" (or of 2 other names)`, Names([]string{"a", "b", "c"}))
}
