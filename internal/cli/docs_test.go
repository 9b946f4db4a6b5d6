package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDocsAreCurrent(t *testing.T) {
	t.Parallel()
	var now bytes.Buffer
	writeDocs(&now, newRoot(new(program)))
	there, err := os.ReadFile("../../docs/cli.md")
	require.NoError(t, err)
	require.Equal(t, now.String(), string(there), "run go generate ./cmd/relukko")
}

func TestEveryCommandIsExplained(t *testing.T) {
	t.Parallel()
	for _, cmd := range newRoot(new(program)).Commands() {
		if cmd.Hidden || cmd.Name() == "help" {
			continue
		}
		require.NotEmpty(t, cmd.Short, cmd.Name())
		require.NotEmpty(t, cmd.Long, cmd.Name())
		require.Contains(t, cmd.Example, "relukko", cmd.Name())
		require.NotEmpty(t, cmd.GroupID, cmd.Name())
		require.NotNil(t, cmd.Args, cmd.Name())
		require.True(t, cmd.ValidArgsFunction != nil || len(cmd.ValidArgs) > 0, cmd.Name())
		for line := range strings.Lines(cmd.Long) {
			require.LessOrEqual(t, len([]rune(line)), 81, line)
		}
		status, stdout, stderr := run(t, nil, "help", cmd.Name())
		require.Zero(t, status)
		require.Empty(t, stderr)
		require.Contains(t, stdout, "Examples:", cmd.Name())
	}
}
