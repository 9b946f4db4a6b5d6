package cli

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAuditFile(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "audit.log")
	require.NoError(t, os.WriteFile(path, []byte("{}\n"), 0o640))
	files := &reloader{log: slog.New(slog.NewTextHandler(&log, nil))}
	audit, file, err := newAuditLog(path, files)
	require.NoError(t, err)
	audit.Info("one")
	require.NoError(t, os.Rename(path, path+".1"))
	audit.Info("two")
	files.reload(false)
	require.NoFileExists(t, path, "until SIGHUP")
	files.reload(true)
	audit.Info("three")
	require.Equal(t, 3, strings.Count(string(read(t, path+".1")), "\n"))
	require.Contains(t, string(read(t, path)), `"level":"INFO","msg":"three"}`)
	require.NotContains(t, string(read(t, path)), "two")

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	files.reload(true)
	require.Contains(t, log.String(), "could not reload the audit log, the previous stay in use")
	audit.Info("four")
	require.NotContains(t, log.String(), "cannot write")
	require.NoError(t, file.Close())
	audit.Info("five")
	require.Contains(t, log.String(), "cannot write to the audit log")
	require.Contains(t, log.String(), "five")

	_, _, err = newAuditLog(path, files)
	require.ErrorContains(t, err, "--audit-log: ")
	none, file, err := newAuditLog("", files)
	require.NoError(t, err)
	require.Nil(t, none)
	require.NoError(t, file.Close())
}
