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
		retry   Retry
	}{
		{store.ErrGone, 404, `there is no lock "a": it was released or has expired`, RetryNever},
		{store.ErrHeld, 409, `lock "a" is held`, RetryNever},
		{fmt.Errorf("x: %w", store.ErrHeld), 409, `lock "a" is held`, RetryNever},
		{store.ErrCancelled, 410,
			`the acquire of lock "a" was cancelled: acquire with a new mark`, RetryNever},
		{store.ErrOutOfRange, 400,
			`lock "a": expires_at would lie outside of the years 1 to 9999`, RetryNever},
		{notDone, 503, `lock "a": the store is unavailable: try again`, RetryLater},
		{engine.ErrClosing, 503, `lock "a": the server is shutting down`, RetryNow},
		{engine.ErrFull, 503,
			`lock "a": too many requests wait on this server (--max-waiters): try again later`,
			RetryLater},
		{&wire.RequestError{Message: "no name"}, 400, "no name", RetryNever},
		{
			errors.New("disk full"), 500, `lock "a": internal error: see the server's log`,
			RetryNever,
		},
	} {
		got := Refuse(row.err, Name("a"))
		require.Equal(t, row.status, got.Status)
		require.Equal(t, row.message, got.Message)
		require.Equal(t, row.retry, got.Retry)
		require.NotZero(t, got.Level)
	}
	require.Equal(t, "the store is unavailable: try again",
		Refuse(store.ErrUnavailable, "").Message)
	require.Equal(t, `lock "a" (or of 2 other names)`, Names([]string{"a", "b", "c"}))
}
