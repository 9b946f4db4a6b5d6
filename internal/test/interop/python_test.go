package interop

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	pyrelukko = "pyrelukko==0.12.0"
	robot     = "robotframework-relukko==0.11.0"
)

// required reports whether the tests must not be skipped.
func required() bool { return os.Getenv("RELUKKO_REQUIRE_INTEROP") != "" }

// skip skips a test with a message, or fails it where it is required.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	if required() {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// venv is a Python environment with both clients and the sources of their
// suites, created once for all tests.
type venv struct {
	python           string
	pyrelukko, robot string // the unpacked sdists
}

var theVenv = sync.OnceValues(makeVenv)

func python(t *testing.T) venv {
	t.Helper()
	if !required() && os.Getenv("RELUKKO_INTEROP") == "" {
		t.Skip("set RELUKKO_INTEROP=1 to run the Python clients' own suites " +
			"(they are downloaded; it takes two minutes)")
	}
	v, err := theVenv()
	if err != nil {
		skip(t, "no Python environment: %v", err)
	}
	return v
}

func makeVenv() (v venv, err error) {
	interpreter, err := findPython()
	if err != nil {
		return v, err
	}
	dir, err := os.MkdirTemp("", "relukko-interop-")
	if err != nil {
		return v, err
	}
	tempDirs = append(tempDirs, dir)
	v.python = filepath.Join(dir, "venv", "bin", "python")
	for _, step := range [][]string{
		{interpreter, "-m", "venv", filepath.Join(dir, "venv")},
		{v.python, "-m", "pip", "install", "--quiet", pyrelukko, robot, "pytest", "requests-mock",
			"httpx", "testcontainers", "hatchling", "hatch-vcs"},
		{v.python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation",
			"--no-binary", ":all:", "--dest", dir, pyrelukko},
		{v.python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation",
			"--no-binary", ":all:", "--dest", dir, robot},
	} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			return v, fmt.Errorf("%s: %w: %s", strings.Join(step, " "), err, out)
		}
	}
	sdists, err := filepath.Glob(filepath.Join(dir, "*.tar.gz"))
	if err != nil {
		return v, err
	}
	for _, sdist := range sdists {
		if out, err := exec.Command("tar", "-xzf", sdist, "-C", dir).CombinedOutput(); err != nil {
			return v, fmt.Errorf("unpacking %s: %w: %s", sdist, err, out)
		}
		unpacked := strings.TrimSuffix(sdist, ".tar.gz")
		if strings.HasPrefix(filepath.Base(sdist), "robotframework") {
			v.robot = unpacked
		} else {
			v.pyrelukko = unpacked
		}
	}
	return v, nil
}

// findPython returns a Python of at least 3.12, which the Robot library needs.
func findPython() (string, error) {
	candidates := []string{"python3.14", "python3.13", "python3.12", "python3"}
	if root, err := exec.Command("pyenv", "root").Output(); err == nil {
		installed, _ := filepath.Glob(filepath.Join(
			strings.TrimSpace(string(root)), "versions", "3.1[2-9]*", "bin", "python3"))
		candidates = append(candidates, installed...)
	}
	for _, c := range candidates {
		const check = "import sys, venv; sys.exit(sys.version_info < (3, 12))"
		if exec.Command(c, "-c", check).Run() == nil {
			return c, nil
		}
	}
	return "", fmt.Errorf("none of %s is a Python of at least 3.12, "+
		"which robotframework-relukko needs", strings.Join(candidates, ", "))
}

// suite runs a suite of Python tests against a backend and requires that n passed.
func (v venv) suite(t *testing.T, dir string, b backend, n int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), v.python, "-m", "pytest", "-q", "-p",
		"no:cacheprovider", "tests")
	cmd.Dir = t.TempDir() // the suites write files, and several run at a time
	require.NoError(t, os.CopyFS(cmd.Dir, os.DirFS(dir)))
	cmd.Env = append(os.Environ(), "CI_HAS_RELUKKO=1", "CI_RELUKKO_BASE_URL="+b.url,
		"CI_RELUKKO_API_KEY="+b.key,
		"RELUKKO_TRUST_ME_IT_IS_LOCKED=", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
	require.Contains(t, string(out), fmt.Sprintf("%d passed", n))
	require.NotContains(t, string(out), "skipped")
}

func (v venv) contend(ctx context.Context, b backend, name, register string, times int,
	way string) error {
	cmd := exec.CommandContext(ctx, v.python, "contend.py", b.url, b.key, name, register,
		fmt.Sprint(times), way)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("contend.py: %w: %s", err, out)
	}
	return nil
}
