package boltstore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

const sector = 512 // what a disk writes whole or not at all

// platter is what is on the disk itself, as opposed to what the kernel has been given.
type platter struct {
	t       *testing.T
	s       *boltstore.Store
	image   []byte  // synced
	pending []write // not synced, in order
	// The kernel gives up the next meta page or record: its sync fails, and it is never written.
	lose bool
	// The process dies before the next sync of a record.
	dying bool

	losses [][]byte // what was on the disk when the power went, after each write
}

type write struct {
	page []byte
	at   int64
}

// spin follows all that the store writes from now on. bbolt syncs before and after each meta page.
// What else it syncs makes the disk no worse than assumed here.
func spin(t *testing.T, s *boltstore.Store, path string) *platter {
	image, err := os.ReadFile(path)
	require.NoError(t, err)
	p := &platter{t: t, s: s, image: image}
	s.HookWrites(func(page []byte, at int64, do boltstore.WriteFunc) (int, error) {
		isLast := s.IsLast(at)
		if at < 2*s.PageSize() || p.ends(func(at int64) bool { return at < 2*s.PageSize() }) {
			p.sync()
		}
		n, err := do(page, at)
		if isLast && p.lose {
			p.lose = false
			return 0, errDisk
		}
		p.pending = append(p.pending, write{slices.Clone(page), at})
		p.losses = append(p.losses, p.powerLoss())
		return n, err
	})
	s.HookSyncs(func() {
		if !p.dying {
			p.sync()
		}
	})
	return p
}

// ends reports whether the last write that is not synced went to such a place.
func (p *platter) ends(is func(at int64) bool) bool {
	return len(p.pending) > 0 && is(p.pending[len(p.pending)-1].at)
}

func (p *platter) sync() {
	for _, w := range p.pending {
		p.image = put(p.image, w.page, w.at)
	}
	p.pending = nil
}

func put(image, data []byte, at int64) []byte {
	if missing := int(at) + len(data) - len(image); missing > 0 {
		image = append(image, make([]byte, missing)...)
	}
	copy(image[at:], data)
	return image
}

// powerLoss answers what may be on the disk if the power goes now: what is synced, and any part of
// the rest, in any order.
func (p *platter) powerLoss() []byte {
	image := slices.Clone(p.image)
	for _, w := range p.pending {
		image = put(image, nil, w.at+int64(len(w.page)))
		some := rand.N(3) // none of it, all, or part
		for from := 0; from < len(w.page); from += sector {
			if some == 1 || some == 2 && rand.N(2) == 0 {
				image = put(image, w.page[from:from+sector], w.at+int64(from))
			}
		}
	}
	return image
}

// acknowledged says that a method has succeeded, so its last sync has. It answers how the power may
// have gone before.
func (p *platter) acknowledged() (losses [][]byte) {
	require.False(p.t, p.ends(p.s.InLog), "a record that is not synced")
	p.sync()
	losses, p.losses = p.losses, nil
	return losses
}

// TestPowerLoss: the power goes between any two writes, and what was not synced gets to the disk in
// part. What was acknowledged is there, and what was under way is there whole or not at all. There
// is a checkpoint now and then because the log is full, and because it is made so.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, boltstore.WithClock(longAgo), boltstore.WithSmallLog())
	populate(t, s, 120) // several pages
	before := s.Content()
	p := spin(t, s, path)
	losses, cameAbout := 0, 0
	for i := range 120 {
		if i%4 == 0 {
			s.NoLog()
		}
		var err error
		some := before.Locks[rand.N(len(before.Locks))]
		switch {
		case i%3 == 0:
			in := newLock(fmt.Sprint("new ", i))
			in.Mark = fmt.Sprint("mark ", i)
			_, err = s.Create(t.Context(), in)
		case i%3 == 1:
			_, err = s.Update(t.Context(), some.ID, store.Change{Extend: time.Second})
		case i%6 == 2:
			_, err = s.Delete(t.Context(), some.ID, store.Ending{})
		default:
			_, err = s.Cancel(t.Context(), owner, fmt.Sprint("mark ", i-5))
		}
		require.NoError(t, err)
		images := p.acknowledged()
		after := s.Content()
		require.False(t, equal(before, after))
		requireContent(t, after, contentOfImage(t, p.image))
		for _, image := range images {
			losses++
			got := contentOfImage(t, image)
			if equal(after, got) {
				cameAbout++
			} else {
				requireContent(t, before, got)
			}
		}
		before = after
	}
	t.Logf("after %d of %d losses of power, what was under way was there", cameAbout, losses)
	require.Positive(t, cameAbout)
	require.Greater(t, losses, cameAbout*3/2)
}

// TestAPageThatTheKernelGivesUp: a sync fails, and the meta page or the record that it was for
// never gets to the disk by itself, though reads of the file see it. Then the power goes in the
// middle of the next checkpoint, which uses the pages that the lost one has freed.
func TestAPageThatTheKernelGivesUp(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, boltstore.WithClock(longAgo), boltstore.WithSmallLog())
	populate(t, s, 120)
	p := spin(t, s, path)
	for i := range 40 {
		victim := create(t, s, fmt.Sprint("victim ", i))
		p.acknowledged()
		if i%2 == 0 {
			s.NoLog()
		}
		p.lose = true
		_, err := s.Delete(t.Context(), victim.ID, store.Ending{})
		require.ErrorIs(t, err, errDisk)
		before := s.Content()
		_, err = s.Get(t.Context(), victim.ID)
		require.ErrorIs(t, err, store.ErrGone, "it came about, for all to see")
		p.acknowledged()
		if i%4 < 2 {
			s.NoLog()
		}
		create(t, s, fmt.Sprint("new ", i))
		after := s.Content()
		for _, image := range p.acknowledged() {
			if got := contentOfImage(t, image); !equal(after, got) {
				requireContent(t, before, got)
			}
		}
		requireContent(t, after, contentOfImage(t, p.image))
	}
}

// TestOpenMakesSureOfWhatItReads: a process was killed between the last write of a change and its
// sync. The next one reads what is not on the disk, and the power must not go before it is.
func TestOpenMakesSureOfWhatItReads(t *testing.T) {
	for _, checkpoint := range []bool{false, true} {
		t.Run(fmt.Sprint("checkpoint=", checkpoint), func(t *testing.T) {
			path := newPath(t)
			s := open(t, path, boltstore.WithClock(longAgo), boltstore.WithSmallLog())
			populate(t, s, 120)
			s.Checkpoint()
			p := spin(t, s, path)
			if checkpoint {
				s.NoLog()
			}
			p.dying = true
			create(t, s, "the last")
			want := s.Content()
			require.NoError(t, s.Close())

			require.Len(t, p.pending, 1, "the meta page or the record")
			require.NotContains(t, contentOfImage(t, p.image).Locks, want.Locks[len(want.Locks)-1],
				"not on the disk")
			require.NoError(t, boltstore.Admit(
				path, func(page []byte, at int64) { p.image = put(p.image, page, at) }))
			requireContent(t, want, contentOfImage(t, p.image))
		})
	}
}
