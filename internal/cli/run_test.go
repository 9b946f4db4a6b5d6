package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestNamesOfAPool(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		given, want []string
	}{
		{[]string{"a"}, []string{"a"}},
		{[]string{"a,b", "c"}, []string{"a", "b", "c"}},
		{[]string{"licence/1..3"}, []string{"licence/1", "licence/2", "licence/3"}},
		{[]string{"9..11,x"}, []string{"9", "10", "11", "x"}},
		{[]string{"a..b", "1..b", "a..1", "a1.5"}, []string{"a..b", "1..b", "a..1", "a1.5"}},
	} {
		names, err := expand(row.given)
		require.NoError(t, err)
		require.Equal(t, row.want, names)
	}
	for given, says := range map[string]string{
		"a/3..1": "must rise, by less than 100", "a/1..101": "must rise, by less than 100",
		"a/01..05": "without leading zeros", "a/1..05": "without leading zeros",
		"a/1..+5": "without leading zeros or a sign",
	} {
		_, err := expand([]string{given})
		require.ErrorContains(t, err, says)
	}
}

func TestUnusableFlagsOfRun(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	for says, args := range map[string][]string{
		"--any is instead of a name before --": {"--any", "a,b", "c"},
		"[any lock] were all set":              {"--any", "a,b", "--lock", "c"},
		`the name "a" is in the pool twice`:    {"--any", "a,a"},
		`the name "" is empty`:                 {"--any", "a,"},
		`"KILL" is not USR1, USR2 or ALRM`:     {"--on-wanted", "KILL", "a"},
		"the priority must be from -10 to 10":  {"--priority", "11", "a"},
		"the reason has a control character":   {"--reason", "a\nb", "a"},
		"repeat --lock; for any one of them":   {"a", "b"},
	} {
		args = append(append([]string{"run"}, args...), "--", "true")
		status, _, stderr := run(t, of(s), args...)
		require.Equal(t, statusUsage, status, stderr)
		require.Contains(t, stderr, says)
	}
	require.Empty(t, s.Locks())
}

func TestThePlaceIsShown(t *testing.T) {
	t.Parallel()
	now := time.Now()
	waits := held("1", "user@bench-7 (flash 1.2)", 12*time.Minute)
	for place, want := range map[int]string{
		0: "", 1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 21: "21st",
		112: "112th",
	} {
		if want != "" {
			want += " in the queue, "
		}
		w := &waiting{name: "arm", holder: waits.Holder, place: place, began: now}
		require.Equal(t, `relukko: waiting for lock "arm", `+want+
			`held by user@bench-7 (flash 1.2) for 12m`, w.line(now, 0))
	}
	for place, want := range map[int]string{1: "held by user@bench-7 (flash 1.2) for 12m",
		2: "2nd in the queue, held by user@bench-7 (flas…"} {
		w := &waiting{name: "arm", holder: waits.Holder, place: place, began: now}
		require.Equal(t, `relukko: waiting for lock "arm", `+want, w.line(now, 78))
	}
	w := &waiting{any: true, name: "a,b", place: 2, began: now}
	require.Equal(t, `relukko: waiting for any of "a,b", 2nd in the queue, `+
		`the holder is not known yet`, w.line(now, 0))
}
