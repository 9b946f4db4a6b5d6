package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestJSONStrings(t *testing.T) {
	for _, s := range []string{"", "a", "a b", `"`, `\`, "\x00", "\x1f", "ä", "\u2028", "<&>",
		"a\xff", "🤖", strings.Repeat("long ", 1000)} {
		want, err := json.Marshal(s)
		require.NoError(t, err)
		var a, b string
		got := appendString([]byte("x"), s)[1:]
		require.NoError(t, json.Unmarshal(got, &a))
		require.NoError(t, json.Unmarshal(want, &b))
		require.Equal(t, b, a)
	}
}

func TestDepth(t *testing.T) {
	for depth, want := range map[int]bool{maxDepth: true, maxDepth + 1: false} {
		for _, pair := range [][2]string{{"[", "]"}, {`{"":`, "}"}} {
			text := strings.Repeat(pair[0], depth-1) + "[]" + strings.Repeat(pair[1], depth-1)
			s := scan([]byte(text))
			s.value()
			require.Equal(t, want, s.end())
			require.Equal(t, want, json.Valid([]byte(text)))
		}
	}
}
