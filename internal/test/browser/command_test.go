package browser

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A shell runs the command lines that the page offers, with the command of this repository.
type shell struct {
	b    *tab
	bash string
	env  []string
}

func newShell(b *tab, key string) *shell {
	b.t.Helper()
	bash, err := exec.LookPath("bash")
	if errors.Is(err, exec.ErrNotFound) || runtime.GOOS == "windows" {
		b.t.Skip("there is no bash")
	}
	require.NoError(b.t, err)
	home := b.t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(home, "relukko"), "./cmd/relukko")
	build.Dir = filepath.Join("..", "..", "..")
	out, err := build.CombinedOutput()
	require.NoError(b.t, err, string(out))
	return &shell{b, bash, append(os.Environ(), "HOME="+home, "RELUKKO_API_KEY="+key,
		"PATH="+home+string(os.PathListSeparator)+os.Getenv("PATH"))}
}

// run runs the command line of the open dialog, which is closed.
func (s *shell) run() {
	s.b.t.Helper()
	s.b.sees("dialog code", "relukko")
	line := of[string](s.b, "dialog code", "innerText")
	s.b.press("Cancel")
	s.b.gone("dialog")
	cmd := exec.Command(s.bash, "-c", line)
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	require.NoError(s.b.t, err, "%s\n%s", line, out)
}

func TestTheCommandLinesDoTheSame(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor(adaKey)
	sh := newShell(b, adaKey)
	for _, name := range []string{"bench-3", "-it's a $(bench) ☃"} {
		b.visit("/lock?" + strings.ReplaceAll(
			value[string](b, "new URLSearchParams({name: "+js(name)+"}).toString()"), "+", "%20"))
		b.sees(".now", "free")
		b.press("Reserve…")
		b.write("reason", "it's calibrated; $HOME")
		b.press("+2h")
		sh.run()
		b.sees(".now", "reserved")
		b.sees(".facts", "it's calibrated; $HOME")
		b.reads(".facts", `Remaining\s+(2h|1h 59m)`)

		b.press("Extend…")
		b.press("+8h")
		sh.run()
		b.reads(".facts", `Remaining\s+(10h|9h 5\dm)`)
		b.press("Release…")
		sh.run()
		b.sees(".now", "free")

		b.press("Reserve…") // without a reason
		sh.run()
		b.sees(".now", "reserved")
		b.press("Release…")
		sh.run()
		b.sees(".now", "free")

		b.press("Take out of service…")
		b.write("reason", "broken")
		sh.run()
		b.sees(".now", "out of service")
		b.press("Put back in service…")
		sh.run()
		b.sees(".now", "free")
	}
}

func TestTheCommandLineBreaksTheLock(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.lock(graceKey, "bench-3", "grace", time.Hour)
	b := s.visitor(adminKey)
	sh := newShell(b, adminKey)
	b.visit("/lock?name=bench-3")
	b.press("Break…")
	b.write("reason", "it is mine now")
	sh.run()
	b.sees(".now", "free")
	b.sees("[aria-labelledby=history]", "broken by admin")
	b.sees("[aria-labelledby=history]", "it is mine now")
}
