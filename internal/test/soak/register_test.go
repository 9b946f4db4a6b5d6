//go:build linux

package soak

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// register is the thing that the locks guard, one file for each: it takes a
// write only with a fencing token at least as high as all that it has taken.
// The file begins with the highest one; the log of all writes follows.
type register struct{ dir string }

const headLength = 21 // twenty digits and a line break

// write checks the token and writes, which is one step for all processes.
func (r register) write(lock string, token uint64, who string) (taken bool, err error) {
	f, err := os.OpenFile(filepath.Join(r.dir, lock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	defer f.Close() // unlocks it, as the end of the process would
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return false, err
	}
	head := make([]byte, headLength)
	var highest uint64
	switch _, err := f.ReadAt(head, 0); {
	case err == nil:
		if highest, err = strconv.ParseUint(string(head[:headLength-1]), 10, 64); err != nil {
			return false, fmt.Errorf("the register of %s begins with %q: %w", lock, head, err)
		}
	case !errors.Is(err, io.EOF):
		return false, err
	}
	if taken = token >= highest; taken {
		if _, err := f.WriteAt(fmt.Appendf(nil, "%020d\n", token), 0); err != nil {
			return false, err
		}
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%d %t %s %d\n", token, taken, who, now()),
		max(end, headLength))
	return taken, err
}

// entry is a write as the register has logged it.
type entry struct {
	token uint64
	taken bool
	who   string
	at    instant
}

// entries answers all writes in their order.
func (r register) entries(lock string) (entries []entry, err error) {
	text, err := os.ReadFile(filepath.Join(r.dir, lock))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(text) < headLength {
		return nil, fmt.Errorf("the register of %s is %q", lock, text)
	}
	for lines := bufio.NewScanner(bytes.NewReader(text[headLength:])); lines.Scan(); {
		var e entry
		if _, err := fmt.Sscan(lines.Text(), &e.token, &e.taken, &e.who, &e.at); err != nil {
			return nil, fmt.Errorf("the register of %s has %q: %w", lock, lines.Text(), err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func TestRegisterRefusesLowerTokens(t *testing.T) {
	r := register{t.TempDir()}
	for i, row := range []struct {
		token uint64
		taken bool
	}{{5, true}, {5, true}, {4, false}, {700, true}, {699, false}, {5, false}, {700, true}} {
		taken, err := r.write("arm", row.token, "test")
		require.NoError(t, err)
		require.Equal(t, row.taken, taken, "write %d", i)
	}
	taken, err := r.write("dongle", 1, "test")
	require.NoError(t, err)
	require.True(t, taken)

	entries, err := r.entries("arm")
	require.NoError(t, err)
	require.Len(t, entries, 7)
	require.Equal(t, uint64(4), entries[2].token)
	require.False(t, entries[2].taken)
}

func TestRegisterChecksAndWritesInOneStep(t *testing.T) {
	r := register{t.TempDir()}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for token := range uint64(50) {
				if _, err := r.write("arm", token+1, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	entries, err := r.entries("arm")
	require.NoError(t, err)
	require.Len(t, entries, 400)
	var v verdict
	v.writes("arm", entries)
	require.Empty(t, v.faults)
}
