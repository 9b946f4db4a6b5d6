package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

// TestTheProgram runs the program as a user does.
func TestTheProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "pool.exe")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	began := time.Now()
	out, err = exec.CommandContext(t.Context(), program).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Less(t, time.Since(began), 20*time.Second)
	require.Contains(t, string(out), "no bench was used by two at a time")
	require.Contains(t, string(out), "technician")

	s := relukkotest.NewServer(t)
	out, err = exec.CommandContext(
		t.Context(), program, "-url", s.URL, "-key", s.APIKey).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, s.Locks())

	out, err = exec.CommandContext(
		t.Context(), program, "-url", "http://127.0.0.1:1", "-key", "x").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "connection refused")
}
