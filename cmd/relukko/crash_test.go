//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestACrashOfRunCostsItsTTLAndASecond on the store that is used by default.
func TestACrashOfRunCostsItsTTLAndASecond(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{
		"immediately": 0, "after the first heartbeat": 2 * time.Second,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveWith(t, nil, "--store", boltAt(t))
			input, keys := openInput(t)
			args := []string{"run", "--ttl", "5s", "arm", "--"}
			crashing := launch(t, s.env(), append(args, "cat"), input)
			_, err := io.WriteString(keys, "ready\n")
			require.NoError(t, err)
			require.Equal(t, "ready", crashing.line())
			next := launch(t, s.env(), append(args, "echo", "has it"))
			next.stderr.await(t, "waiting for lock")
			<-time.After(after)
			crashing.signal(syscall.SIGKILL)
			crashed := time.Now()
			require.Equal(t, "has it", next.line())
			require.Less(t, time.Since(crashed), 6500*time.Millisecond)
			require.Zero(t, next.awaitEnd(), next.stderr)
			crashing.awaitEnd()
			s.stop()
		})
	}
}
