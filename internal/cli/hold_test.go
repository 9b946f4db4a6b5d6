package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestUnusableFlagsOfHold(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	for says, args := range map[string][]string{
		`required flag(s) "reason", "for" not set`: {"a"},
		"--for: give whole seconds, at least one":  {"a", "--for", "1.5", "--reason", "r"},
		"the reason has 256 bytes": {
			"a", "--for", "0", "--reason", strings.Repeat("r", 256)},
		"the TTL must be whole seconds from 1 s to 36": {"a", "--for", "366d", "--reason", "r"},
	} {
		status, _, stderr := run(t, of(s), append([]string{"hold"}, args...)...)
		require.Equal(t, statusUsage, status, stderr)
		require.Contains(t, stderr, says)
	}
	require.Empty(t, s.Locks())
}

func TestCutReason(t *testing.T) {
	t.Parallel()
	for creator, want := range map[string][2]string{
		"":               {"", ""},
		"ada@b/7":        {"ada@b/7", ""},
		"ada@b/7 (x)":    {"ada@b/7", "x"},
		"a (x (y) (z))":  {"a", "x (y) (z)"},
		"Ada, (x) later": {"Ada, (x) later", ""},
		"a(x)":           {"a(x)", ""},
	} {
		who, reason := cutReason(creator)
		require.Equal(t, want, [2]string{who, reason}, creator)
	}
}
