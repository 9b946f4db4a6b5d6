package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

// asRoot is a command with which any user runs another one as root, "" where the
// tests cannot make one: a setuid copy of setpriv.
func asRoot(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("setpriv")
	if err != nil || os.Getuid() != 0 {
		return ""
	}
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "relukko") // unlike t.TempDir, others can be let in
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	path = filepath.Join(dir, "asroot")
	require.NoError(t, os.WriteFile(path, content, 0o755))
	require.NoError(t, os.Chmod(path, 0o755|os.ModeSetuid))
	return path
}

// A command that has become another user's cannot be signalled. The message says that
// it still runs.
func TestACommandOfAnotherUserSurvivesALoss(t *testing.T) {
	t.Parallel()
	root := asRoot(t)
	if root == "" {
		return
	}
	s := relukkotest.NewServer(t)
	readable := filepath.Join(filepath.Dir(root), "relukko")
	content, err := os.ReadFile(program)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(readable, content, 0o755))
	p := launch(t, of(s), []string{"run", "--kill-after", "200ms", "arm", "--",
		root, "--reuid", "0", "--regid", "0", "--clear-groups",
		"sh", "-c", "echo $$; exec sleep 100"},
		func(c *exec.Cmd) {
			c.Path, c.Dir = readable, "/"
			c.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		})
	pid := p.line()
	t.Cleanup(func() { exec.Command("kill", "-KILL", pid).Run() })
	awaitHeartbeat(t, s, "arm")
	p.signal(syscall.SIGUSR1)
	p.stderr.await(t,
		"the command did not get a signal (user defined signal 1): operation not permitted")
	require.True(t, s.Delete("arm"))
	require.Equal(t, 76, p.awaitEnd(), p.stderr)
	p.stderr.await(t, "did not get a signal (terminated)")
	p.stderr.await(t, "some of the command still runs, without the lock: "+
		"process group "+pid+" cannot be killed: operation not permitted")
	p.stderr.await(t, "it expired. The command could not be stopped\n")
	require.NoError(t, exec.Command("kill", "-0", pid).Run(), "it still runs")
}
