//go:build linux

package soak

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTheJudgeSees checks what a soak must find, and what it must accept.
func TestTheJudgeSees(t *testing.T) {
	const ms = instant(time.Millisecond)
	// in is a tenure, from the request to its last held instant.
	in := func(worker string, token uint64, from, to instant) *stay {
		return &stay{worker: worker, number: 1, lock: "arm", id: worker, token: token,
			ttl: time.Second, strict: true,
			asked: from - ms, entered: from, held: span{from, to}}
	}
	lax := func(s *stay) *stay { s.strict = false; return s }
	stopped := func(worker string, from, to instant) evidence {
		return evidence{standstills: map[string][]span{worker: {{from, to}}}}
	}
	deleted := func(id string, from, to instant) evidence {
		return evidence{byHand: map[string]span{id: {from, to}}}
	}
	for _, row := range []struct {
		name                    string
		stays                   []*stay
		evidence                evidence
		overlaps, pauses, hands int
		fault                   string // none where empty
	}{
		{name: "one after the other",
			stays: []*stay{in("a", 1, 10*ms, 20*ms), in("b", 2, 22*ms, 30*ms)}},
		{name: "two at once", stays: []*stay{in("a", 1, 10*ms, 25*ms), in("b", 2, 22*ms, 30*ms)},
			overlaps: 1, fault: "overlaps"},
		{name: "one within the other, not neighbours", stays: []*stay{in("a", 1, 10*ms, 99*ms),
			in("b", 2, 22*ms, 30*ms), in("c", 3, 40*ms, 50*ms)},
			overlaps: 2, fault: "overlaps"},
		{name: "a session in a pause",
			stays:    []*stay{in("a", 1, 10*ms, 3000*ms), in("b", 2, 2000*ms, 3000*ms)},
			evidence: stopped("a", 500*ms, 2900*ms), overlaps: 1, fault: "overlaps"},
		{name: "a context in a pause",
			stays:    []*stay{lax(in("a", 1, 10*ms, 3000*ms)), in("b", 2, 2000*ms, 3000*ms)},
			evidence: stopped("a", 500*ms, 2900*ms), pauses: 1},
		{name: "a context, the other one in a pause",
			stays:    []*stay{lax(in("a", 1, 10*ms, 3000*ms)), in("b", 2, 2000*ms, 3000*ms)},
			evidence: stopped("b", 500*ms, 2900*ms), overlaps: 1, fault: "overlaps"},
		{name: "a context long after a pause",
			stays:    []*stay{lax(in("a", 1, 10*ms, 3000*ms)), in("b", 2, 2000*ms, 3000*ms)},
			evidence: stopped("a", 500*ms, 1500*ms), overlaps: 1, fault: "overlaps"},
		{name: "deleted by hand", stays: []*stay{in("a", 1, 10*ms, 300*ms),
			in("b", 2, 200*ms, 400*ms)},
			evidence: deleted("a", 150*ms, 160*ms), hands: 1},
		{name: "deleted by hand afterwards",
			stays:    []*stay{in("a", 1, 10*ms, 300*ms), in("b", 2, 200*ms, 400*ms)},
			evidence: deleted("a", 250*ms, 260*ms), overlaps: 1, fault: "overlaps"},
		{name: "deleted by hand and not noticed", stays: []*stay{in("a", 1, 10*ms, 1300*ms)},
			evidence: deleted("a", 150*ms, 160*ms), fault: "more than a TTL"},
		{name: "the same token twice", stays: []*stay{in("a", 7, 10*ms, 20*ms),
			in("b", 7, 30*ms, 40*ms)}, fault: "same token"},
		{name: "tokens fall", stays: []*stay{in("a", 7, 10*ms, 20*ms), in("b", 6, 30*ms, 40*ms)},
			fault: "lower token"},
		{name: "refused while it vouches", stays: []*stay{{worker: "a", token: 1, refused: 5 * ms}},
			fault: "was refused"},
		{name: "refused after a deletion by hand", stays: []*stay{{worker: "a", id: "a", token: 1,
			refused: 5 * ms}}, evidence: deleted("a", 4*ms, 9*ms)},
		{name: "forgotten by the backend", stays: []*stay{{worker: "a", token: 1, reason: "deleted",
			left: time.Millisecond}}, fault: "had lost the lock"},
		{name: "gone when its lease was over",
			stays: []*stay{{worker: "a", token: 1, reason: "deleted", left: -time.Millisecond}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var v verdict
			v.stays(row.stays, &row.evidence)
			require.Equal(t, []int{row.overlaps, row.pauses, row.hands},
				[]int{v.overlaps, v.inPauses, v.afterHandDeletes})
			if row.fault == "" {
				require.Empty(t, v.faults)
				return
			}
			require.NotEmpty(t, v.faults)
			require.Contains(t, v.faults[0], row.fault)
		})
	}
}

func TestTheJudgeSeesARegisterThatTakesLowerTokens(t *testing.T) {
	var v verdict
	v.writes("arm", []entry{{token: 3, taken: true}, {token: 2}, {token: 3, taken: true},
		{token: 9, taken: true}})
	require.Empty(t, v.faults)
	require.Equal(t, 1, v.refusals)
	v.writes("arm", []entry{{token: 3, taken: true}, {token: 2, taken: true}})
	require.Len(t, v.faults, 1)
}

func TestAJournalIsReadToItsCutEnd(t *testing.T) {
	l, err := parseJournal([]byte(`{"at":1,"kind":"asked","stay":1,"lock":"arm"}
{"at":2,"kind":"entered","stay":1,"id":"x","token":4}
{"at":3,"kind":"held","stay":1}
{"at":9,"kind":"held","stay":1}
{"at":10,"kind":"lost","stay":1,"reason":"deleted","left":-5}
{"at":11,"kind":"left","stay":1}
{"at":12,"kind":"asked","stay":2,"lock":"arm"}
{"at":20,"kind":"stalled","from":13}
{"at":21,"kind":"enter`), workerConfig{Name: "w", TTL: time.Second})
	require.NoError(t, err)
	require.Equal(t, []*stay{{worker: "w", number: 1, lock: "arm", id: "x", token: 4,
		ttl:   time.Second,
		asked: 1, entered: 2, held: span{3, 9}, reason: "deleted", left: -5}}, l.stays)
	require.Equal(t, []span{{13, 20}}, l.stalls)
	require.Equal(t, 1, l.losses)
	require.Zero(t, l.released)
	require.False(t, l.ended)
}
