package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/backup"
	"gitlab.com/relukko/relukko-go/server/store"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)

// content is of all kinds, and has so many entries in its history.
func content(entries int) (*store.Content, []store.Ended) {
	creator, empty := "Ada@bench/7 (flash 1.2) #k3v9x2m4q7ab", ""
	lock := store.Lock{
		ID: "950daa20-3b1f-4c5d-8e9f-0a1b2c3d4e5f", Name: "ä \x00\xff 🤖", Creator: &creator,
		IP: "192.0.2.7", Owner: "ci-runner", FencingToken: 1 << 60,
		ExpiresAt: time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC),
		CreatedAt: now, UpdatedAt: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	plain := lock
	plain.Creator = nil
	other := lock
	other.Creator = &empty
	c := &store.Content{
		At: now, Token: 1<<60 + 1,
		Locks: []store.Record{
			{Lock: lock, Mark: "k3v9x2m4q7ab", Leased: true, Lease: -time.Second},
			{Lock: plain, Waited: time.Hour}, {Lock: other, Leased: true},
		},
		Marks: []store.Mark{{Owner: "ci-runner", Mark: "mark", Until: now.Add(time.Minute)}, {}},
	}
	var all []store.Ended
	for i := range entries {
		all = append(all, store.Ended{
			Lock: lock, Ending: store.Ending{
				How: store.How(i % 4), By: "boss", Reason: strings.Repeat("x", i%500),
			}, At: now.Add(time.Duration(i) * time.Second), Waited: time.Duration(i) * time.Second,
		})
	}
	c.History = yielding(all, nil)
	return c, all
}

func yielding(all []store.Ended, err error) func(func(store.Ended, error) bool) {
	return func(yield func(store.Ended, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
		if err != nil {
			yield(store.Ended{}, err)
		}
	}
}

func written(t testing.TB, entries int) []byte {
	t.Helper()
	c, _ := content(entries)
	var b bytes.Buffer
	require.NoError(t, backup.Write(&b, c))
	return b.Bytes()
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, entries := range []int{0, 1, 3000} {
		want, all := content(entries)
		for _, r := range []io.Reader{
			bytes.NewReader(written(t, entries)),
			iotest.HalfReader(bytes.NewReader(written(t, entries))),
		} {
			got, err := backup.Read(r)
			require.NoError(t, err)
			var ended []store.Ended
			for e, err := range got.History {
				require.NoError(t, err)
				ended = append(ended, e)
			}
			require.Equal(t, all, ended)
			got.History, want.History = nil, nil
			require.Equal(t, want, got)
		}
		s, err := backup.Check(bytes.NewReader(written(t, entries)))
		require.NoError(t, err)
		require.Equal(t, &backup.Summary{At: now, Locks: 3, Marks: 2, Ended: entries}, s)
	}
	var b bytes.Buffer
	empty := &store.Content{At: now, History: yielding(nil, nil)}
	require.NoError(t, backup.Write(&b, empty))
	s, err := backup.Check(&b)
	require.NoError(t, err)
	require.Equal(t, &backup.Summary{At: now}, s)
}

// TestTheFormatStays: a backup of today can be read by later versions.
func TestTheFormatStays(t *testing.T) {
	old, err := os.ReadFile(filepath.Join("testdata", "format1"))
	require.NoError(t, err)
	require.Equal(t, string(old), string(written(t, 1)))
}

// TestADamagedBackupIsRefused: whichever byte is changed, and whatever is missing or added. The
// error says where.
func TestADamagedBackupIsRefused(t *testing.T) {
	const entries = 600
	whole := written(t, entries)
	refused := func(what string, b []byte) {
		t.Helper()
		_, err := backup.Check(bytes.NewReader(b))
		require.Error(t, err, what)
		require.Regexp(t, "the part that begins at byte [0-9]+|does not begin as one of relukko|"+
			"its first line is", err.Error(), what)
	}
	at := []int{len(whole) - 1, len(whole) - 5, len(whole) - 13}
	for i := range 500 {
		at = append(at, i, rand.N(len(whole)))
	}
	damaged := slices.Clone(whole)
	for _, i := range at {
		damaged[i] ^= 1 << rand.N(8)
		refused(fmt.Sprint("byte ", i, " is ", damaged[i]), damaged)
		damaged[i] = whole[i]
		refused(fmt.Sprint("it is cut at ", i), whole[:i])
		refused(fmt.Sprint("byte ", i, " is missing"), slices.Delete(slices.Clone(whole), i, i+1))
	}
	refused("nothing", nil)
	refused("another one follows", append(slices.Clone(whole), whole...))
	refused("a byte follows", append(slices.Clone(whole), 0))
	// Blocks that are whole, of this file and of another one.
	const block = 64<<10 + 400
	refused("a part is missing", slices.Delete(slices.Clone(whole), 1000, 1000+block))
	refused("the end is of another one", append(slices.Clone(whole[:len(whole)-17]),
		written(t, entries-1)[len(written(t, entries-1))-17:]...))
	refused("a text", []byte("relukko\n"))
	refused("a large file without lines", make([]byte, 1<<20))
}

// TestWhereABackupIsDamaged: in words for people.
func TestWhereABackupIsDamaged(t *testing.T) {
	b := written(t, 1)
	for want, damaged := range map[string][]byte{
		"the backup is cut short: it ends within the part that begins at byte 17": b[:40],
		"the backup is damaged in the part that begins at byte 17: a checksum is wrong": append(
			slices.Clone(b[:30]), 'x'+b[30]),
		"the backup does not begin as one of relukko does: its first line is " +
			`"relukko backup 2", which another version of relukko has written; this version ` +
			`knows "relukko backup 1". Use the other version`: []byte("relukko backup 2\n…"),
	} {
		damaged = append(damaged, b[min(len(damaged), len(b)):]...)
		if strings.Contains(want, "cut") {
			damaged = damaged[:40]
		}
		_, err := backup.Check(bytes.NewReader(damaged))
		require.EqualError(t, err, want)
	}
}

// TestErrorsOfOthers end a backup as they are.
func TestErrorsOfOthers(t *testing.T) {
	broken := errors.New("the disk is broken")
	c, all := content(1000)
	c.History = yielding(all, broken)
	var b bytes.Buffer
	require.ErrorIs(t, backup.Write(&b, c), broken)
	_, err := backup.Check(&b)
	require.ErrorContains(t, err, "the backup is cut short")

	_, err = backup.Check(io.MultiReader(bytes.NewReader(written(t, 0)), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken)
	c, _ = content(1000)
	require.ErrorIs(t, backup.Write(full{}, c), io.ErrShortWrite)
}

// full is a disk that is full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// FuzzRead: whatever a file has, reading it ends, with little memory.
func FuzzRead(f *testing.F) {
	f.Add(written(f, 2))
	f.Add([]byte("relukko backup 1\nH\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := backup.Check(bytes.NewReader(b)); err == nil {
			require.True(t, bytes.HasPrefix(b, []byte("relukko backup 1\n")))
		}
	})
}
