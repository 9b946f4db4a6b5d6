package cli

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClip(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		s    string
		n    int
		want string
	}{
		{"abc", 3, "abc"}, {"abc", 2, "a…"}, {"üüü", 2, "ü…"}, {"abc", 1, "…"}, {"abc", 0, "abc"},
		{"標定台", 6, "標定台"}, {"標定台", 5, "標定…"}, {"標定台", 4, "標…"},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…"}, {"👩‍🔧👩‍🔧", 3, "👩‍🔧…"},
	} {
		require.Equal(t, row.want, clip(row.s, row.n), "%q in %d", row.s, row.n)
		if row.n > 0 {
			require.LessOrEqual(t, columns(clip(row.s, row.n)), row.n, row.s)
		}
	}
}

func TestColumnsAreAligned(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	require.NoError(t, writeTable(&b, [][]string{{"NAME", "HOLDER"}, {"機械臂", "Ada"}, {"x", "-"}}))
	require.Equal(t, "NAME    HOLDER\n機械臂  Ada\nx       -\n", b.String())
}
