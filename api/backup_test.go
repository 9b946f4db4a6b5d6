package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestBackup(t *testing.T) {
	s := relukkotest.NewServer(t)
	_, err := s.Client().Create(t.Context(), "robot-arm-1", "Ada")
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, s.Client().Backup(t.Context(), &b))
	require.Contains(t, b.String(), "robot-arm-1")

	other, err := api.New(s.URL, "another key")
	require.NoError(t, err)
	defer other.Close()
	b.Reset()
	require.ErrorIs(t, other.Backup(t.Context(), &b), api.ErrRefused)
	require.Zero(t, b.Len())
}

// full is a disk that is full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

// TestABackupThatFails says why.
func TestABackupThatFails(t *testing.T) {
	broken := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 100_000))
		panic(http.ErrAbortHandler)
	}
	for want, test := range map[string]struct {
		handler http.HandlerFunc
		to      io.Writer
	}{
		"relukko: take a backup: the disk is full": {
			func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("b")) }, full{},
		},
		"relukko: take a backup: the answer (200) broke off: unexpected EOF": {
			broken, io.Discard,
		},
		"relukko: take a backup: 404 Not Found": {http.NotFound, io.Discard},
	} {
		s := httptest.NewServer(test.handler)
		c, err := api.New(s.URL, "key")
		require.NoError(t, err)
		err = c.Backup(t.Context(), test.to)
		require.ErrorContains(t, err, want)
		require.Equal(t, want == "relukko: take a backup: 404 Not Found",
			errors.Is(err, api.ErrUnsupported))
		require.NoError(t, c.Close())
		s.Close()
	}
}

// slowly is a transport whose responses bring a byte each pause, so many, and then nothing.
type slowly struct {
	pause time.Duration
	bytes int
}

func (s slowly) RoundTrip(r *http.Request) (*http.Response, error) {
	body, w := io.Pipe()
	go func() {
		for range s.bytes {
			time.Sleep(s.pause)
			_, _ = w.Write([]byte("b"))
		}
		<-r.Context().Done()
		w.CloseWithError(r.Context().Err())
	}()
	return &http.Response{StatusCode: 200, Body: body, Request: r}, nil
}

// TestABackupMayTakeLong, but not without progress.
func TestABackupMayTakeLong(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, err := api.New("http://relukko.test", "key",
			api.WithHTTPClient(&http.Client{Transport: slowly{50 * time.Second, 100}}))
		require.NoError(t, err)
		defer c.Close()
		var b bytes.Buffer
		began := time.Now()
		err = c.Backup(t.Context(), &b)
		require.ErrorContains(t, err, "1m0s")
		require.Equal(t, 5060*time.Second, time.Since(began))
		require.Equal(t, 100, b.Len())

		silent, err := api.New("http://relukko.test", "key",
			api.WithHTTPClient(&http.Client{Transport: slowly{}}))
		require.NoError(t, err)
		defer silent.Close()
		began = time.Now()
		require.ErrorContains(t, silent.Backup(t.Context(), &b), "1m0s")
		require.Equal(t, time.Minute, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, c.Backup(ctx, &b), context.DeadlineExceeded)
	})
}
