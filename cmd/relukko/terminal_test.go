//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/rivo/uniseg"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/relukkotest"
)

// console is a terminal, its keyboard, and a program that it controls.
type console struct {
	t      testing.TB
	keys   *os.File
	screen *lines
	cmd    *exec.Cmd
	closed chan struct{} // no process has the terminal open
}

func open(t testing.TB, s *relukkotest.Server, name string, args ...string) *console {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = environment(t, append(of(s), "relukko="+program, "PS1=>> ", "TERM=dumb")...)
	keys, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 200})
	require.NoError(t, err)
	c := &console{t: t, keys: keys, screen: newLines(), cmd: cmd, closed: make(chan struct{})}
	go func() {
		defer close(c.closed)
		b := make([]byte, 4096)
		for {
			n, err := keys.Read(b)
			c.screen.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		keys.Close()
		<-c.closed
	})
	return c
}

// shell starts an interactive shell without echo.
func shell(t testing.TB, s *relukkotest.Server) *console {
	t.Helper()
	c := open(t, s, "bash", "--norc", "--noprofile", "--noediting", "-i")
	c.await(">> ")
	c.types("stty -echo\n")
	c.await(">> ")
	return c
}

func (c *console) types(keys string) {
	c.t.Helper()
	_, err := c.keys.WriteString(keys)
	require.NoError(c.t, err)
}

// await waits until text is on the screen, and wipes the screen up to there.
func (c *console) await(text string) {
	c.t.Helper()
	all := c.screen.await(c.t, text)
	c.screen.mu.Lock()
	defer c.screen.mu.Unlock()
	c.screen.text.Next(strings.Index(all, text) + len(text))
}

// end waits for the end of the program and returns how it ended.
func (c *console) end() syscall.WaitStatus {
	c.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.cmd.Wait()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		c.cmd.Process.Kill()
		<-done
		c.t.Errorf("it did not end; on the screen: %q", c.screen)
	}
	<-c.closed
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// awaitStop waits until the shell reports that a job in the background was stopped, which
// it does before a prompt.
func (c *console) awaitStop() {
	c.t.Helper()
	eventually(c.t, "it stops", func() bool {
		c.types("\n")
		return strings.Contains(c.screen.String(), "Stopped")
	})
	c.await("Stopped")
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
	ctrlZ = "\x1a"
)

func TestTheCommandSeesTheTerminal(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := open(t, s, program, "run", "arm", "--", "sh", "-c",
		`test -t 0 && test -t 1 && test -t 2 && stty size &&
			set -- $(cut -d" " -f5,8 /proc/$$/stat) && test $1 = $2 && echo in front
		read line; echo "got $line"; exit 3`)
	c.await("24 200\r\nin front\r\n")
	c.types("this\n")
	c.await("got this")
	require.Equal(t, 3, c.end().ExitStatus())
	require.Empty(t, s.Locks())
}

func TestJobControl(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := shell(t, s)
	c.types(`$relukko run arm -- sh -c 'echo begun; while read l; do echo "got $l"; done; ` +
		`echo over; exit 5'` + "\n")
	c.await("begun")
	c.types("one\n")
	c.await("got one")

	c.types(ctrlZ)
	c.await("relukko: stopped, so nothing renews the lock. Unless it is continued within ")
	c.await("Stopped")
	c.await(">> ")
	require.Len(t, s.Locks(), 1)
	c.types("echo 'the shell has the terminal'\n")
	c.await("the shell has the terminal")
	c.types("fg\n")
	c.types("two\n")
	c.await("got two")

	c.types(ctrlZ)
	c.await("Stopped")
	c.await(">> ")
	c.types("bg\n") // it wants to read, so it stops again
	c.awaitStop()
	c.await(">> ")
	c.types("fg\n")
	c.types("three\n" + ctrlD)
	c.await("got three")
	c.await("over")
	c.await(">> ")
	c.types("echo status=$?\n")
	c.await("status=5")
	require.Empty(t, s.Locks())
}

func TestInTheBackground(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := shell(t, s)
	c.types("$relukko run arm -- cat &\n")
	c.awaitStop()
	c.types("fg\n")
	c.types("line\n")
	c.await("line\r\n")
	c.types(ctrlC)
	c.await(">> ")
	c.types("echo status=$?\n")
	c.await("status=130")
	require.Empty(t, s.Locks())
}

// In a pipeline a process gets the terminal when it reads from it.
func TestInAPipeline(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := shell(t, s)
	c.types(`$relukko run arm -- echo piped | ` +
		`sh -c 'read l; echo key?; read k < /dev/tty; echo "$l, $k"'` + "\n")
	c.await("key?")
	c.types("a\n")
	c.await("piped, a")
	c.await(">> ")
	c.types(`$relukko run arm -- sh -c 'echo key? >&2; read k < /dev/tty; echo "k=$k"' | cat` +
		"\n")
	c.await("key?")
	c.types("b\n")
	c.await("k=b")
	c.await(">> ")
	c.types(`$relukko run arm -- sh -c 'trap "echo goes on >&2" CONT; ` +
		`echo begun >&2; while :; do :; done' | cat` + "\n")
	c.await("begun")
	c.types(ctrlZ)
	c.await("Stopped")
	c.await(">> ")
	c.types("fg\n")
	c.await("\ngoes on") // not what fg says
	c.types(ctrlC)
	c.await(">> ")
	eventually(t, "the lock is free", func() bool { return len(s.Locks()) == 0 })
}

// In $(…) a shell ignores the signals by which a command asks for the terminal, and
// SIGTSTP: stopped, it could not be continued.
func TestInACommandSubstitution(t *testing.T) {
	if runtime.GOOS != "linux" {
		return
	}
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := shell(t, s)
	c.types(`x=$($relukko run arm -- sh -c 'echo key? >&2; read k; echo "k=$k"'); echo "[$x]"` +
		"\n")
	c.await("key?")
	c.types("a\n")
	c.await("[k=a]")
	c.await(">> ")
	c.types(`x=$($relukko run arm -- ` +
		`sh -c 'echo 1? >&2; read k; echo 2? >&2; read l; echo "$k$l"')` + "\n")
	c.await("1?")
	c.types("a\n")
	c.await("2?")
	c.types(ctrlZ + "b\n")
	c.await(">> ")
	c.types(`echo "[$x]"` + "\n")
	c.await("[ab]")
	c.await(">> ")
	c.types(`x=$($relukko run arm -- $relukko run camera -- ` +
		`sh -c 'echo key? >&2; read k; echo "k=$k"'); echo "[$x]"` + "\n")
	c.await("key?")
	c.types(ctrlZ + "a\n")
	c.await("[k=a]")
	c.await(">> ")
	c.types(`x=$($relukko run arm -- sh -c 'echo key? >&2; read k'); echo went on` + "\n")
	c.await("key?")
	c.types(ctrlC)
	c.await(">> ")
	require.NotContains(t, c.screen.String(), "went on")
	c.types("echo status=$?\n")
	c.await("status=130")
	require.Empty(t, s.Locks())
}

// With one relukko run in another, Ctrl-Z reaches the shell and fg the command, whether it
// has the terminal or not.
func TestJobControlOfOneInAnother(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := shell(t, s)
	for _, row := range []struct{ name, before string }{
		{"it has the terminal", ""},
		{"in a pipeline", "echo begun | "},
	} {
		c.types(row.before +
			`$relukko run arm -- $relukko run camera -- ` +
			`sh -c 'trap "echo goes on" CONT; echo begun; while :; do :; done'` + "\n")
		c.await("begun")
		c.types(ctrlZ)
		c.await("Stopped")
		c.await(">> ")
		require.Len(t, s.Locks(), 2, row.name)
		c.types("fg\n")
		c.await("\ngoes on") // not what fg says
		c.types(ctrlC)
		c.await(">> ")
		eventually(t, "the locks are free", func() bool { return len(s.Locks()) == 0 })
	}
}

// Without a shell, Ctrl-Z does nothing, as without relukko run.
func TestCtrlZWithoutAShell(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := open(t, s, program, "run", "arm", "--", "sh", "-c",
		`echo ready; while read l; do echo "got $l"; done`)
	c.await("ready")
	c.types(ctrlZ)
	c.types("this\n")
	c.await("got this")
	c.types(ctrlD)
	require.Zero(t, c.end().ExitStatus())
}

// A command that was stopped for longer than the lease does nothing any more.
func TestTheLockIsLostWhileStopped(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := shell(t, s)
	c.types(`$relukko run --ttl 1s arm -- sh -c 'trap "echo it acted" CONT TERM; echo begun; ` +
		`while :; do read l; echo it read; done'` + "\n")
	c.await("begun")
	awaitHeartbeat(t, s, "arm")
	c.types(ctrlZ)
	c.await("Stopped")
	c.await(">> ")
	<-time.NewTimer(time.Until(lockOf(t, s, "arm").ExpiresAt)).C
	c.types("fg\n")
	c.await("was lost: it was not renewed in time")
	c.await(">> ")
	require.NotContains(t, c.screen.String(), "it acted")
	c.types("echo status=$?\n")
	c.await("status=76")
	require.NotContains(t, c.screen.String(), "it ")
}

// A script that is interrupted in the middle of a guarded command, or while it
// waits for the lock, does not go on with what is next.
func TestCtrlCEndsTheScriptToo(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ run, await string }{
		"while it runs":  {`arm -- sh -c 'echo begun; exec sleep 100'`, "begun"},
		"while it waits": {`held -- echo done`, "waiting for lock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := relukkotest.NewServer(t)
			_, err := s.Client().Create(t.Context(), "held", "Ada")
			require.NoError(t, err)
			c := open(t, s, "bash", "-c",
				`for i in 1 2 3; do "$relukko" run `+row.run+`; echo went on; done`)
			c.await(row.await)
			c.types(ctrlC)
			ws := c.end()
			require.True(t, ws.Signaled(), ws.ExitStatus())
			require.Equal(t, syscall.SIGINT, ws.Signal())
			require.NotContains(t, c.screen.String(), "went on")
			require.Len(t, s.Locks(), 1, "Ada's")
		})
	}
}

// The modes of the terminal are restored after a command was killed.
func TestTheTerminalIsAsItWas(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	c := open(t, s, "bash", "-c",
		`"$relukko" run arm -- sh -c 'stty raw -echo; echo begun; exec sleep 100'
		echo status=$?; stty -a`)
	c.await("begun")
	awaitHeartbeat(t, s, "arm")
	require.True(t, s.Delete("arm"))
	c.await("status=76\r\n")
	c.end()
	require.Contains(t, c.screen.String(), " icanon ")
	require.Contains(t, c.screen.String(), " echo ")
}

func TestTheWaitingLine(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	lock, err := s.Client().Create(t.Context(), "arm", "Ada")
	require.NoError(t, err)
	c := open(t, s, program, "run", "arm", "--", "echo", "begun")
	c.await("\rrelukko: waiting for lock \"arm\", 1st in the queue, held by Ada (127.0.0.1) for ")
	c.await("waiting for 1s\x1b[K") // it is kept up to date
	_, err = s.Client().Delete(t.Context(), lock.ID)
	require.NoError(t, err)
	c.await("\r\x1b[Krelukko: acquired lock \"arm\" after ")
	c.await("begun")
	require.Zero(t, c.end().ExitStatus())
}

// Wide characters take two columns: the line must not wrap, or each update would
// leave one behind.
func TestTheLineWithWideCharacters(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	const name, holder = "機械臂一号・標定工作台・三階実験室", "デプロイ パイプライン 四七一一号 夜間"
	_, err := s.Client().Create(t.Context(), name, holder)
	require.NoError(t, err)
	c := open(t, s, program, "run", name, "--", "true")
	require.NoError(t, pty.Setsize(c.keys, &pty.Winsize{Rows: 24, Cols: 80}))
	for range 3 { // at least one is drawn in the new size
		c.await(", waiting for ")
	}
	all := c.screen.await(t, ", waiting for ")
	line, _, _ := strings.Cut(all[strings.LastIndex(all, "\r")+1:], "\x1b")
	require.LessOrEqual(t, uniseg.StringWidth(line), 80)
	require.Contains(t, line, "機械臂")
	require.Contains(t, line, "held by デプロイ")
	c.types(ctrlC)
	c.end()
}
