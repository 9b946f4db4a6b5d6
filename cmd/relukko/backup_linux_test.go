package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/boltstore"
	"gitlab.com/relukko/relukko-go/server/pgstore"
)

// BenchmarkBackup measures a server with 10,000 locks and a history of 1,000,000: how long it takes
// to start, to back it up, to verify that and to restore it; the size of a backup, and the memory
// of the server after its start and at most.
func BenchmarkBackup(b *testing.B) {
	for name, storeOf := range stores(b) {
		b.Run(name, func(b *testing.B) {
			spec, content := storeOf(b), many(10_000, 1_000_000)
			path, bolt := strings.CutPrefix(spec, "bolt:")
			if bolt {
				require.NoError(b, boltstore.Load(path, content))
			} else {
				require.NoError(b, pgstore.Load(b.Context(), spec, content))
			}
			began := time.Now()
			s := serveWith(b, nil, "--store", spec)
			start, memory := time.Since(began).Seconds(), s.memory("VmRSS")
			file := filepath.Join(b.TempDir(), "backup")
			timed := func(unit string, args ...string) {
				began := time.Now()
				launched := launch(b, s.env(), args)
				<-launched.waited
				require.True(b, launched.cmd.ProcessState.Success(), launched.stderr)
				b.ReportMetric(time.Since(began).Seconds(), unit)
			}
			for b.Loop() {
				timed("s/backup", "backup", file)
			}
			b.ReportMetric(start, "s/start")
			b.ReportMetric(memory, "MB/started")
			b.ReportMetric(s.memory("VmHWM"), "MB/most")
			timed("s/verify", "verify", file)
			timed("s/restore", "restore", file, "--to", storeOf(b))
			info, err := os.Stat(file)
			require.NoError(b, err)
			b.ReportMetric(float64(info.Size())/1e6, "MB/backup")
			b.ReportMetric(0, "ns/op")
			s.stop()
		})
	}
}

// memory returns a line of the process's status, in MB.
func (s *serving) memory(name string) float64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	kB := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(status)
	require.NotNil(s.t, kB)
	n, err := strconv.ParseFloat(string(kB[1]), 64)
	require.NoError(s.t, err)
	return n * 1024 / 1e6
}
