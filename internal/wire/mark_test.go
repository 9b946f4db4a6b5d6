package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMarks(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		mark := NewMark()
		require.Regexp(t, `^[a-z2-7]{12}$`, mark)
		require.False(t, seen[mark])
		seen[mark] = true
		for _, creator := range []string{"", "user@host/42", "user #1 #aaaaaaaaaaaa"} {
			base, got, ok := CutMark(WithMark(creator, mark))
			require.True(t, ok)
			require.Equal(t, creator, base)
			require.Equal(t, mark, got)
		}
	}
}

func TestCreatorsWithoutMark(t *testing.T) {
	for _, creator := range []string{
		"", " #", "robot #7", "user#k3v2x2m4q7ab", "user #k3v2x2m4q7a", "user #k3v2x2m4q7abc",
		"user #k3v_x2m4q7ab", "user #K3V2X2M4Q7AB", "user #k3v2x2m4q7ab ", "user k3v2x2m4q7ab",
		"#k3v2x2m4q7ab", "k3v2x2m4q7ab",
	} {
		base, mark, ok := CutMark(creator)
		require.False(t, ok, creator)
		require.Equal(t, creator, base)
		require.Empty(t, mark)
	}
}

func TestCutReason(t *testing.T) {
	for creator, want := range map[string][2]string{
		"":               {"", ""},
		"ada@b/7":        {"ada@b/7", ""},
		"ada@b/7 (x)":    {"ada@b/7", "x"},
		"a (x (y) (z))":  {"a", "x (y) (z)"},
		"Ada, (x) later": {"Ada, (x) later", ""},
		"a(x)":           {"a(x)", ""},
	} {
		who, reason := CutReason(creator)
		require.Equal(t, want, [2]string{who, reason}, creator)
		if reason != "" {
			require.Equal(t, creator, WithReason(who, reason))
		}
	}
}
