package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`,
			id)
		require.False(t, seen[id])
		seen[id] = true
		lower, ok := ParseID(strings.ToUpper(id))
		require.True(t, ok)
		require.Equal(t, id, lower)
	}
	for _, s := range []string{
		"", "x", "950daa20a814451e9407ec496cf9c136", "{950daa20-a814-451e-9407-ec496cf9c136}",
		"950daa20-a814-451e-9407-ec496cf9c13", "950daa20-a814-451e-9407_ec496cf9c136",
		"950daa20-a814-451e-9407-ec496cf9c13ä",
	} {
		_, ok := ParseID(s)
		require.False(t, ok, s)
	}
}
