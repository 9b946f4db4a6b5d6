package classic

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A heard is a hint that the pacer hears at a time since it began to wait.
type heard struct {
	at     time.Duration
	hint   hint
	yield  time.Duration
	pushed bool
}

// due returns when, since it began to wait, a new pacer is due after it has
// heard all that.
func due(random func(time.Duration) time.Duration, poll time.Duration, pushed bool, all ...heard,
) time.Duration {
	p, began := pacer{random: random}, time.Now()
	p.begin(began, poll, pushed)
	for _, h := range all {
		p.hear(h.hint, began.Add(h.at), h.pushed, h.yield)
	}
	return p.due().Sub(began)
}

const ms = time.Millisecond

func TestPacer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		poll   time.Duration
		pushed bool
		heard  []heard
		first  time.Duration // when it is due without chance, which only makes that earlier
		last   time.Duration // or later: with the most of it
	}{
		{name: "poll", poll: 4 * time.Second, first: 4 * time.Second, last: 2*time.Second + 1},
		{name: "push is up", poll: 4 * time.Second, pushed: true,
			first: 30 * time.Second, last: 15*time.Second + 1},

		{name: "released", poll: 4 * time.Second, pushed: true,
			heard: []heard{{at: time.Second, hint: hintReleased, pushed: true}},
			first: time.Second, last: time.Second},
		{name: "released, others want it", poll: 4 * time.Second, pushed: true,
			heard: []heard{{at: time.Second, hint: hintReleased, pushed: true, yield: 2 * ms}},
			first: 1002 * ms, last: 1002 * ms},
		{name: "released later than the poll", poll: time.Second,
			heard: []heard{{at: 800 * ms, hint: hintReleased, yield: time.Second}},
			first: time.Second, last: 500*ms + 1},
		{name: "unheard of", poll: 4 * time.Second, pushed: true,
			heard: []heard{{at: 3 * ms, hint: hintUnheard, pushed: true, yield: time.Second}},
			first: 3 * ms, last: 3 * ms},
		{name: "a later hint puts nothing off", poll: 4 * time.Second, pushed: true,
			heard: []heard{
				{at: 10 * ms, hint: hintReleased, yield: 20 * ms},
				{at: 20 * ms, hint: hintReleased, yield: 20 * ms},
			},
			first: 30 * ms, last: 30 * ms},
		{name: "an earlier one counts", poll: 4 * time.Second, pushed: true,
			heard: []heard{
				{at: 10 * ms, hint: hintReleased, yield: 20 * ms},
				{at: 20 * ms, hint: hintUnheard},
			},
			first: 20 * ms, last: 20 * ms},

		{name: "some lock, for the first time", poll: 4 * time.Second, pushed: true,
			heard: []heard{{at: 10 * ms, hint: hintMaybe}}, first: 10 * ms, last: 10 * ms},
		{name: "some lock, and nothing changes what is pending", poll: 4 * time.Second,
			pushed: true,
			heard: []heard{
				{at: 10 * ms, hint: hintReleased, yield: 20 * ms}, {at: 11 * ms, hint: hintMaybe},
				{at: 12 * ms, hint: hintLikely},
			},
			first: 30 * ms, last: 30 * ms},
		{name: "likely, for the first time", poll: 4 * time.Second, pushed: true,
			heard: []heard{{at: 10 * ms, hint: hintLikely}}, first: 10 * ms, last: 10 * ms},
		{name: "likely, others want it", poll: 4 * time.Second, pushed: true,
			heard: []heard{{at: 10 * ms, hint: hintLikely, yield: 1}},
			first: 10 * ms, last: 20*ms - 1},

		{name: "push comes", poll: 4 * time.Second,
			heard: []heard{{at: time.Second, hint: hintPush, pushed: true}},
			first: 4 * time.Second, last: 2*time.Second + 1},
		{name: "push goes", poll: time.Second, pushed: true,
			heard: []heard{{at: 2 * time.Second, hint: hintPush}},
			first: 3 * time.Second, last: 2500*ms + 1},
		{name: "push never was: the time that was waited counts", poll: 4 * time.Second,
			heard: []heard{{at: 1900 * ms, hint: hintPush}},
			first: 4 * time.Second, last: 2*time.Second + 1},
		{name: "nothing", poll: time.Second, heard: []heard{{at: ms, hint: hintNone}},
			first: time.Second, last: 500*ms + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.first, due(none, tt.poll, tt.pushed, tt.heard...))
			require.Equal(t, tt.last, due(most, tt.poll, tt.pushed, tt.heard...))
		})
	}
}

func TestPollsBecomeLonger(t *testing.T) {
	var polls []time.Duration
	poll := time.Duration(0)
	for range 7 {
		poll = longerPoll(poll)
		polls = append(polls, poll)
	}
	require.Equal(t, []time.Duration{
		250 * ms, 500 * ms, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second,
		5 * time.Second,
	}, polls)
}

// pauses has the pacer wait again and again, hear a hint after each step, and
// returns how long each create is put off.
func pauses(random func(time.Duration) time.Duration, h hint, step time.Duration, n int,
) (all []time.Duration) {
	p, now := pacer{random: random}, time.Now()
	for range n {
		now = now.Add(step)
		p.begin(now, time.Minute, true)
		p.hear(h, now, true, 0)
		all = append(all, p.due().Sub(now))
		now = p.due()
	}
	return all
}

func TestFloodOfBroadcastsThatNameNoLock(t *testing.T) {
	require.Equal(t, []time.Duration{
		0, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 250 * ms, 250 * ms,
	}, pauses(none, hintMaybe, ms, 8))
	require.Equal(t, []time.Duration{0, 9 * ms, 18 * ms, 36 * ms},
		pauses(most, hintMaybe, ms, 4), "up to a tenth earlier")
	require.Equal(t, []time.Duration{0, 0, 0}, pauses(none, hintMaybe, time.Second+1, 3),
		"no flood")
	require.Equal(t, []time.Duration{0, 10 * ms, 20 * ms}, pauses(none, hintMaybe, 900*ms, 3))
}

func TestReleaseEndsTheFloodOfBroadcasts(t *testing.T) {
	p, now := pacer{random: none}, time.Now()
	for i, h := range []hint{hintMaybe, hintMaybe, hintReleased, hintMaybe, hintMaybe} {
		p.begin(now, time.Minute, true)
		p.hear(h, now, true, 0)
		require.Equal(t, []time.Duration{0, 10 * ms, 0, 0, 10 * ms}[i], p.due().Sub(now), i)
		now = now.Add(20 * ms)
	}
}

func TestFloodOfReleasesOfThisName(t *testing.T) {
	all := pauses(none, hintReleased, 0, 60)
	for i, d := range all[:50] {
		require.Zero(t, d, "create %d is of the burst", i)
	}
	for i, d := range all[50:] {
		require.Equal(t, askEvery, d, "create %d", 50+i)
	}
	for _, d := range pauses(none, hintReleased, askEvery, 200) {
		require.Zero(t, d, "slow enough for ever")
	}
}

func TestFloodOfReleasesThatAreLikelyOfThisName(t *testing.T) {
	all := pauses(most, hintLikely, 0, 60)
	require.Zero(t, all[0])
	for _, d := range all[1:] {
		require.Equal(t, 10*ms-1, d, "others learn of it by the same broadcast")
	}
	all = pauses(none, hintLikely, 0, 60)
	require.Zero(t, all[50])
	require.Equal(t, askEvery, all[51], "a flood is paid for; the first one was free")
}

func TestPacerOfAQueueHasChance(t *testing.T) {
	p := newPacer()
	for range 1000 {
		d := p.random(2)
		require.True(t, d == 0 || d == 1)
	}
}

func TestYield(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		contended time.Time
		vague     bool
		missed    int
		least     time.Duration
		most      time.Duration
	}{
		{},
		{vague: true, missed: 3},
		{contended: now.Add(-contendedFor - 1), vague: true},
		{contended: now.Add(-contendedFor), least: ms, most: 2*ms - 1},
		{contended: now, least: ms, most: 2*ms - 1},
		{contended: now, missed: 1, least: ms, most: 2*ms - 1},
		{contended: now, missed: 2, least: ms / 2, most: ms - 1},
		{contended: now, missed: 10, least: ms / 10, most: ms/5 - 1},
		{contended: now, vague: true, least: 25 * ms, most: 50*ms - 1},
		{contended: now, vague: true, missed: 5, least: 5 * ms, most: 10*ms - 1},
	} {
		name := fmt.Sprintf("%v ago, vague %t, %d missed", now.Sub(tt.contended), tt.vague,
			tt.missed)
		require.Equal(t, tt.least, yield(now, tt.contended, tt.vague, tt.missed, none), name)
		require.Equal(t, tt.most, yield(now, tt.contended, tt.vague, tt.missed, most), name)
	}
}
