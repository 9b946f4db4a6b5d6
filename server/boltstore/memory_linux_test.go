package boltstore_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// inMemory returns an empty directory that is in memory, if there is space for it.
func inMemory(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	var stat syscall.Statfs_t
	err := syscall.Statfs(memory, &stat)
	if err != nil || stat.Bavail*uint64(stat.Bsize) < 1<<30 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "boltstore-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}
