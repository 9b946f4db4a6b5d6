//go:build unix

package readme

import (
	"bufio"
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	root     = "../../.."
	patience = time.Minute // the programs are built meanwhile
)

// block is one of the code blocks of a page.
type block struct{ language, text string }

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

func blocks(t *testing.T, page string) (all []block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	for _, match := range fence.FindAllStringSubmatch(string(text), -1) {
		all = append(all, block{match[1], match[2]})
	}
	return all
}

// Each kind of reader has its first success on the first screens.
func TestFirstSuccessesAreNear(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	near, _, _ := strings.Cut(string(text), "\n## ")
	require.LessOrEqual(t, strings.Count(near, "\n"), 80)
	for _, reader := range []string{"Shell", "Go program", "Go tests", "CI job", "Python"} {
		require.Contains(t, near, "\n**"+reader)
	}
}

// The Go code is that of the example, which is compiled.
func TestGoCodeIsThatOfTheExample(t *testing.T) {
	var example string
	for _, file := range []string{"main.go", "arm_test.go"} {
		text, err := os.ReadFile(filepath.Join(root, "examples", "first", file))
		require.NoError(t, err)
		example += strings.ReplaceAll("\n"+string(text), "\n\t", "\n")
	}
	found := 0
	for _, b := range blocks(t, "README.md") {
		if b.language == "go" {
			found++
			require.Contains(t, example, b.text)
		}
	}
	require.Equal(t, 2, found)
}

// reader is somebody who has a clone and types what a page says.
type reader struct {
	t    *testing.T
	home string
	dir  string // the current one
	env  []string
	port string // that the default address has here, so that nothing else is in the way
}

func newReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{t: t, home: t.TempDir(), dir: root, port: freePort(t)}
	bin := filepath.Join(r.home, "bin")
	r.env = []string{"HOME=" + r.home, "GOBIN=" + bin,
		"PATH=" + bin + ":" + os.Getenv("PATH"),
		"GOFLAGS=-ldflags=-X=gitlab.com/relukko/relukko-go/internal/settings.defaultPort=" +
			r.port}
	for _, name := range []string{"GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY"} {
		value, err := exec.Command("go", "env", name).Output()
		require.NoError(t, err)
		r.env = append(r.env, name+"="+strings.TrimSpace(string(value)))
	}
	return r
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

func (r *reader) command(script string, more ...string) *exec.Cmd {
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = r.dir
	cmd.Env = append(r.env, more...)
	return cmd
}

// types runs commands in a shell and returns what they print.
func (r *reader) types(script string, more ...string) string {
	r.t.Helper()
	if !strings.Contains(script, "$?") {
		script = "set -e\n" + script
	}
	cmd := r.command(script, more...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(r.t, cmd.Run(), "%s\n%s%s", script, &out, &errs)
	return out.String()
}

// serves runs commands, the last of which is a server, until that is ready.
func (r *reader) serves(script string) {
	r.t.Helper()
	last := strings.LastIndex(script, "relukko serve")
	cmd := r.command("set -e\n" + script[:last] + "exec " + script[last:])
	log, err := cmd.StderrPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, cmd.Start())
	r.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		require.NoError(r.t, cmd.Wait())
	})
	lines := bufio.NewReader(log)
	for said := ""; !strings.Contains(said, "listening on"); {
		line, err := lines.ReadString('\n')
		require.NoError(r.t, err, said)
		said += line
	}
	go lines.WriteTo(new(bytes.Buffer))
}

var (
	ownStatus = regexp.MustCompile(`echo \$\? +# (\d+): `)
	inCI      = regexp.MustCompile(`(?m)^ +- (.*)$`)
	printed   = regexp.MustCompile(`(?m)^(\d+)$`)
)

// Everything that README.md says to type works, in its order, in a fresh home directory.
func TestCommands(t *testing.T) {
	r := newReader(t)
	ciPort := freePort(t)
	var done []string
	for _, b := range blocks(t, "README.md") {
		script := strings.ReplaceAll(b.text, ":3001", ":"+ciPort)
		switch {
		case b.language == "yaml":
			for _, command := range inCI.FindAllStringSubmatch(script, -1) {
				out := r.types(command[1], "RELUKKO_BASE_URL=http://127.0.0.1:"+ciPort,
					"RELUKKO_API_KEY="+r.types("cat ~/relukko.key"))
				require.Contains(t, out, "deploying to staging, alone")
				done = append(done, "CI job")
			}
		case b.language != "sh":
		case strings.Contains(script, "relukko serve "):
			r.serves(script)
			done = append(done, "server")
		case strings.Contains(script, "examples/first/arm.py"):
			if os.Getenv("RELUKKO_INTEROP") == "" && os.Getenv("RELUKKO_REQUIRE_INTEROP") == "" {
				t.Log("set RELUKKO_INTEROP=1 to download PyRelukko and run the Python example")
				continue
			}
			out := r.types(script, "RELUKKO_BASE_URL=http://localhost:"+r.port)
			require.Contains(t, out, "The arm is ours.")
			done = append(done, "Python")
		case strings.Contains(script, "examples/pool"), strings.Contains(script, "./..."):
			continue // .ci/run runs them
		default:
			out := r.types(script)
			var want, got []string
			for _, match := range ownStatus.FindAllStringSubmatch(script, -1) {
				want = append(want, match[1])
			}
			for _, match := range printed.FindAllStringSubmatch(out, -1) {
				got = append(got, match[1])
			}
			require.Equal(t, want, got, out)
			switch {
			case strings.Contains(script, "go run"):
				require.Contains(t, out, "The arm is ours.\n")
				require.Contains(t, out, "--- PASS: TestArm")
				done = append(done, "Go")
			default:
				require.Regexp(t, `robot-arm-1 +\S+@\S+ +127\.0\.0\.1 `, out)
				require.Regexp(t, `(?m)^  state +up$`, out)
				require.Regexp(t, `(?m)^  from +`+r.home+`/.local/state/relukko/local.key$`, out)
				done = append(done, "shell")
			}
		}
	}
	require.Subset(t, done, []string{"server", "shell", "Go", "CI job"})
}
