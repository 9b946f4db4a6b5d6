package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

// TestTheProgram runs the program as a user does, processes included.
func TestTheProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "instrument.exe")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)

	t.Run("guarded", func(t *testing.T) {
		t.Parallel()
		out, err := exec.CommandContext(t.Context(), program, "-duration", "1s").CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Regexp(t, `wrong readings   0\n`, string(out))
		require.Regexp(t, `handoff          median \d+\.\d ms`, string(out))
		require.Regexp(t, `deleted by hand  the lock of 2a, which knew \d+\.\d ms later`,
			string(out))
	})

	t.Run("unguarded", func(t *testing.T) {
		t.Parallel()
		out, err := exec.CommandContext(
			t.Context(), program, "-unguarded", "-duration", "1s").CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Regexp(t, `wrong readings   [1-9]`, string(out))
	})

	t.Run("interrupted, on another backend", func(t *testing.T) {
		t.Parallel()
		s := relukkotest.NewServer(t)
		cmd := exec.CommandContext(t.Context(), program, "-url", s.URL)
		cmd.Env = append(os.Environ(), "RELUKKO_API_KEY="+s.APIKey)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(stdout)
		for lines.Scan() && !strings.Contains(lines.Text(), " held ") {
		}
		require.NotEmpty(t, s.Locks())

		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		for lines.Scan() {
		}
		require.Error(t, cmd.Wait())
		require.Equal(t, "interrupted\n", stderr.String())
		require.Empty(t, s.Locks())
	})

	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		s := relukkotest.NewServer(t)
		out, err := exec.CommandContext(
			t.Context(), program, "-url", s.URL, "-key", "wrong").CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "403")
		require.NotContains(t, string(out), s.APIKey)
	})
}

// What one client sets, another overwrites: that is what the lock is for.
func TestTheInstrument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sim instrument
		for _, row := range []struct{ command, answer string }{
			{"*IDN?", "RELUKKO,SIMULATED SOURCE-METER,0,1.0"},
			{"CONF:VOLT:RANG 10", ""},
			{"sour:volt 5", ""},
			{"SOUR:VOLT?", "5.0000E+00"},
			{"MEAS:VOLT?", "5.0000E+00"},
			{"SOUR:VOLT 50", ""},
			{"MEAS:VOLT?", "9.9000E+37"}, // more than the range
			{"CONF:VOLT:RANG 100", ""},
			{"MEAS:VOLT?", "5.0000E+01"},
			{"SYST:ERR?", `0,"No error"`},
			{"SOUR:VOLT 5000", ""},
			{"SOUR:WATT 1", ""},
			{"SYST:ERR?", `-222,"Data out of range"`},
			{"SYST:ERR?", `-113,"Undefined header"`},
			{"SYST:ERR?", `0,"No error"`},
			{"*RST", ""},
			{"SOUR:VOLT?", "0.0000E+00"},
		} {
			require.Equal(t, row.answer, sim.command(row.command), row.command)
			time.Sleep(settleTime)
		}
		sim.command("CONF:VOLT:RANG 10")
		sim.command("SOUR:VOLT 8")
		time.Sleep(settleTime / 4)
		require.Equal(t, "2.0000E+00", sim.command("MEAS:VOLT?"), "not settled yet")
	})
}

func TestNothingIsSentWhenTheContextIsDone(t *testing.T) {
	var sim instrument
	address, err := sim.start()
	require.NoError(t, err)
	d, err := connect(t.Context(), address)
	require.NoError(t, err)
	defer d.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, d.source(ctx, 5), context.Canceled)
	_, err = d.measure(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, sim.to)
}
