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
