package api

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// writes records what is written.
type writes struct {
	io.ReadWriteCloser
	all [][]byte
	err error
}

func (w *writes) Write(p []byte) (int, error) {
	w.all = append(w.all, append([]byte(nil), p...))
	return len(p), w.err
}

// TestFramesThatTakeOneWrite: frames that were collected go out in order, together, and later ones
// by themselves.
func TestFramesThatTakeOneWrite(t *testing.T) {
	w := &writes{}
	b := &batches{ReadWriteCloser: w}
	write := func(s string) {
		n, err := b.Write([]byte(s))
		require.NoError(t, err)
		require.Len(t, s, n)
	}
	write("one")
	b.collect(true)
	write("two")
	write("three")
	require.Len(t, w.all, 1)
	require.NoError(t, b.flush())
	require.NoError(t, b.flush())
	write("four")
	require.Equal(t, [][]byte{[]byte("one"), []byte("twothree"), []byte("four")}, w.all)

	b.collect(true)
	write(string(make([]byte, maxCollected+1)))
	require.Len(t, w.all, 4, "a batch has an end")
	w.err = errors.New("cut")
	write("five")
	require.ErrorIs(t, b.flush(), w.err)
}
