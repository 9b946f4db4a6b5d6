package classic

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// newHolder returns a holder, what it has reported, and when it has asked.
func newHolder() (h *holder, reports *[]*api.Lock, asked *[]time.Duration) {
	reports, asked = new([]*api.Lock), new([]time.Duration)
	began := time.Now()
	return &holder{
		report: func(lock *api.Lock, _ int) { *reports = append(*reports, lock) },
		asker:  askFunc(func() { *asked = append(*asked, time.Since(began)) }),
	}, reports, asked
}

type askFunc func()

func (f askFunc) ask() { f() }

type isFunc func(holder *api.Lock)

func (f isFunc) is(holder *api.Lock) { f(holder) }

func TestHolderIsReported(t *testing.T) {
	h, reports, _ := newHolder()
	require.Nil(t, h.known())
	h.is(nil)
	require.Nil(t, h.known())
	lock := lockOf(1, testName, mark2)
	h.is(lock)
	h.is(nil)
	require.Equal(t, lock, h.known(), "nil changes nothing")
	require.Equal(t, []*api.Lock{lock}, *reports)

	h.known().ID, (*reports)[0].ID, lock.ID = "changed", "changed", "changed"
	require.Equal(t, testID(1), h.known().ID, "everybody has a copy")
	h.stop()
	h.is(lockOf(2, testName, mark2))
	require.Equal(t, testID(1), h.known().ID)
	require.Len(t, *reports, 1, "the call is over")
}

func TestHolderAsks(t *testing.T) {
	const s = time.Second
	for name, tt := range map[string]struct {
		do   func(h *holder)
		want []time.Duration
	}{
		"never": {func(*holder) {}, nil},
		"once":  {func(h *holder) { h.askIn(s) }, []time.Duration{s}},
		"it will be anyway": {func(h *holder) { h.askIn(s); h.askIn(3 * s) },
			[]time.Duration{s}},
		"and again": {func(h *holder) { h.askIn(s); pass(2 * s); h.askIn(s) },
			[]time.Duration{s, 3 * s}},
		"once, later": {func(h *holder) { h.askOnce(2 * s) }, []time.Duration{2 * s}},
		"once, asked before": {func(h *holder) { h.askOnce(s); pass(2 * s); h.askOnce(s) },
			[]time.Duration{s}},
		"time is over":      {func(h *holder) { h.askOnce(-s) }, []time.Duration{0}},
		"the call is over":  {func(h *holder) { h.askIn(s); h.stop() }, nil},
		"the call was over": {func(h *holder) { h.stop(); h.askIn(s); h.askOnce(s) }, nil},
		"over, asked once": {func(h *holder) { h.askIn(s); pass(2 * s); h.stop(); h.askIn(s) },
			[]time.Duration{s}},
		"over without a timer": {func(h *holder) { h.stop() }, nil},
		"over when it fires": {func(
			h *holder) {
			h.askIn(s)
			h.mu.Lock()
			h.over = true
			h.mu.Unlock()
		}, nil},
		"over, and over again": {func(h *holder) { h.askIn(s); h.stop(); h.stop() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				h, _, asked := newHolder()
				tt.do(h)
				pass(time.Hour)
				require.Equal(t, tt.want, append([]time.Duration(nil), *asked...))
			})
		})
	}
}
