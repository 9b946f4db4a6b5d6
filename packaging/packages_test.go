//go:build linux

// The tests of this module build the packages, unpack and install them, and run what is in them.
package packaging

import (
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// requireEnv makes tests fail rather than be skipped where a program that they need is missing.
const requireEnv = "RELUKKO_REQUIRE_PACKAGES"

// need skips a test where a program is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv(requireEnv) != "" {
				t.Fatalf("%s is set, but %s is not installed", requireEnv, program)
			}
			t.Skipf("NOT TESTED: %s is not installed", program)
		}
	}
}

// output runs a program and returns what it prints.
func output(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	require.NoError(t, err, "%v\n%s", args, out)
	return string(out)
}

// dist is the folder that packaging/build has written to.
var dist string

func TestMain(m *testing.M) {
	var err error
	if dist, err = os.MkdirTemp("", "relukko-packages-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dist)
	os.Exit(code)
}

var buildOnce sync.Once

// packages builds everything for this machine, once.
func packages(t *testing.T) {
	t.Helper()
	need(t, "git", "gzip", "awk")
	buildOnce.Do(func() { output(t, "./build", dist) })
	require.Len(t, files(t, dist, "*.deb"), 1, "the packages were not built")
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	return found
}

// unpacked returns a folder with the files of the deb.
func unpacked(t *testing.T) string {
	t.Helper()
	need(t, "dpkg-deb")
	packages(t)
	dir := t.TempDir()
	output(t, "dpkg-deb", "-x", files(t, dist, "*.deb")[0], dir)
	return dir
}

// modes are those of the files that a package has besides the man pages.
var modes = map[string]fs.FileMode{
	"/etc/relukko":                                         0o755 | fs.ModeDir,
	"/etc/relukko/server.env":                              0o640,
	"/usr/bin/relukko":                                     0o755,
	"/usr/lib/systemd/system/relukko.service":              0o644,
	"/usr/lib/sysusers.d/relukko.conf":                     0o644,
	"/usr/share/bash-completion/completions/relukko":       0o644,
	"/usr/share/fish/vendor_completions.d/relukko.fish":    0o644,
	"/usr/share/doc/relukko/copyright":                     0o644,
	"/usr/share/doc/relukko/CHANGELOG.md":                  0o644,
	"/usr/share/doc/relukko/operations.md":                 0o644,
	"/usr/share/doc/relukko/examples/client.env":           0o644,
	"/usr/share/doc/relukko/examples/nightly-test.service": 0o644,
	"/usr/share/man/man1/relukko.1.gz":                     0o644,
	"/usr/share/man/man1/relukko-serve.1.gz":               0o644,
}

const debZsh, rpmZsh = "/usr/share/zsh/vendor-completions/_relukko",
	"/usr/share/zsh/site-functions/_relukko"

var listed = regexp.MustCompile(`(?m)^([d-][rwx-]{9}) +(\S+) +.* \.?(/\S*)$`)

// requireListed checks the list of a package's files.
func requireListed(t *testing.T, list, zsh string) {
	t.Helper()
	found := make(map[string][]string)
	for _, line := range listed.FindAllStringSubmatch(list, -1) {
		found[strings.TrimSuffix(line[3], "/")] = line
	}
	require.Contains(t, found, zsh)
	for path, mode := range modes {
		require.Contains(t, found, path)
		require.Equal(t, strings.Replace(mode.String(), "d-", "d", 1), found[path][1], path)
	}
	env := found["/etc/relukko/server.env"][0]
	require.Regexp(t, `root[/ ]+relukko `, env, "the group of the service can read it")
	for path, line := range found {
		if path != "/etc/relukko/server.env" {
			require.Regexp(t, `root[/ ]+root `, line[0])
		}
	}
}

func TestDeb(t *testing.T) {
	need(t, "dpkg-deb")
	packages(t)
	deb := files(t, dist, "*.deb")[0]
	requireListed(t, output(t, "dpkg-deb", "-c", deb), debZsh)
	conffiles := output(t, "dpkg-deb", "-I", deb, "conffiles")
	require.Equal(t, "/etc/relukko/server.env", strings.TrimSpace(conffiles))
	for _, script := range []string{"preinst", "postinst", "prerm"} {
		path := filepath.Join(t.TempDir(), script)
		text := output(t, "dpkg-deb", "-I", deb, script)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		output(t, "sh", "-n", path)
	}
}

func TestRPM(t *testing.T) {
	need(t, "rpm")
	packages(t)
	rpm := files(t, dist, "*.rpm")[0]
	requireListed(t, output(t, "rpm", "-qlpv", rpm), rpmZsh)
	require.Equal(t, "/etc/relukko/server.env\n", output(t, "rpm", "-qpc", rpm))
	require.Contains(t, output(t, "rpm", "-qp", "--scripts", rpm), "useradd --system")
}

// What is in the deb works.
func TestUnpackedDebWorks(t *testing.T) {
	dir := unpacked(t)
	at := func(path string) string { return filepath.Join(dir, path) }

	version := output(t, at("/usr/bin/relukko"), "version")
	require.Regexp(t, `^relukko \S+(, commit \S+( with changes)?)?, go1\.\S+ linux/`, version)
	program, err := elf.Open(at("/usr/bin/relukko"))
	require.NoError(t, err)
	defer program.Close()
	libraries, err := program.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)

	for shell, path := range map[string]string{
		"bash": "/usr/share/bash-completion/completions/relukko", "zsh": debZsh,
		"fish": "/usr/share/fish/vendor_completions.d/relukko.fish",
	} {
		t.Run(shell, func(t *testing.T) {
			need(t, shell)
			output(t, shell, "-n", at(path))
		})
	}
	t.Run("man pages", func(t *testing.T) {
		need(t, "man")
		pages := files(t, at("/usr/share/man/man1"), "*.gz")
		require.Greater(t, len(pages), 20)
		for _, page := range pages {
			cmd := exec.Command("man", "--warnings", "-l", page)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANPAGER=cat")
			var warnings strings.Builder
			cmd.Stderr = &warnings
			shown, err := cmd.Output()
			require.NoError(t, err)
			require.Empty(t, warnings.String(), page)
			require.Contains(t, string(shown), "SYNOPSIS", page)
		}
	})
	t.Run("user", func(t *testing.T) {
		need(t, "systemd-sysusers")
		root := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
		output(t, "systemd-sysusers", "--root="+root, at("/usr/lib/sysusers.d/relukko.conf"))
		users, err := os.ReadFile(filepath.Join(root, "etc", "passwd"))
		require.NoError(t, err)
		require.Regexp(t, `(?m)^relukko:.*:/var/lib/relukko:/\S*nologin$`, string(users))
	})
}

// exposure is the most that systemd-analyze security may find, in tenths.
const exposure = "20"

func TestUnits(t *testing.T) {
	need(t, "systemd-analyze")
	dir := unpacked(t)
	for _, path := range []string{"/usr/lib/systemd/system/relukko.service",
		"/usr/share/doc/relukko/examples/nightly-test.service"} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, path))
			require.NoError(t, err)
			unit := filepath.Join(t.TempDir(), filepath.Base(path))
			here := strings.ReplaceAll(string(text), "/usr/bin/", dir+"/usr/bin/")
			require.NotEqual(t, here, string(text))
			require.NoError(t, os.WriteFile(unit, []byte(here), 0o600))
			require.Empty(t, output(t, "systemd-analyze", "verify", "--man=no", unit))
		})
	}
	t.Run("hardened", func(t *testing.T) {
		said := output(t, "systemd-analyze", "security", "--offline=true", "--no-pager",
			"--threshold="+exposure, filepath.Join(dir, "usr/lib/systemd/system/relukko.service"))
		lines := strings.Split(strings.TrimSpace(said), "\n")
		t.Log(lines[len(lines)-1])
	})
}

// inOverlay runs a script as root of a copy of this machine that ends with it.
const inOverlay = `set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
[ -z "$2" ] || cp "$2" "$1/root/relukko.deb"
exec chroot "$1/root" sh -ec "$3"`

const install = `dpkg -i /relukko.deb >/dev/null
stat -c '%U:%G %a %n' /etc/relukko /etc/relukko/server.env
echo '# changed' >> /etc/relukko/server.env
dpkg -i /relukko.deb >/dev/null # an upgrade
tail -n 1 /etc/relukko/server.env
setpriv --reuid=relukko --regid=relukko --clear-groups relukko version >/dev/null
setpriv --reuid=relukko --regid=relukko --clear-groups head -n 1 /etc/relukko/server.env >/dev/null
! setpriv --reuid=nobody --clear-groups --regid=nogroup cat /etc/relukko/server.env 2>/dev/null
dpkg -r relukko >/dev/null
ls /usr/bin/relukko 2>/dev/null || ls /etc/relukko
dpkg -P relukko >/dev/null
ls /etc/relukko 2>/dev/null || echo gone`

// The deb can be installed, again, removed and purged.
func TestInstalledDeb(t *testing.T) {
	need(t, "dpkg", "unshare", "setpriv")
	packages(t)
	overlay := func(deb, script string) ([]byte, error) {
		return exec.Command("unshare", "-m", "sh", "-c", inOverlay, "sh", t.TempDir(), deb,
			script).CombinedOutput()
	}
	if out, err := overlay("", "true"); err != nil {
		t.Skipf("NOT TESTED: there are no overlays here: %v %s", err, out)
	}
	out, err := overlay(files(t, dist, "*.deb")[0], install)
	require.NoError(t, err, "%s", out)
	require.Equal(t, `root:root 755 /etc/relukko
root:relukko 640 /etc/relukko/server.env
# changed
server.env
gone
`, string(out))
}

// The same commit gives the same packages.
func TestBuildIsReproducible(t *testing.T) {
	packages(t)
	again := t.TempDir()
	output(t, "./build", again)
	for _, pattern := range []string{"*.deb", "*.rpm"} {
		require.Equal(t, sum(t, files(t, dist, pattern)[0]), sum(t, files(t, again, pattern)[0]))
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

// The image of the container has the server, certificates of CAs and a place for the locks.
func TestContainer(t *testing.T) {
	need(t, "buildah")
	packages(t)
	storage, images := t.TempDir(), t.TempDir()
	buildah := func(args ...string) *exec.Cmd {
		return exec.Command("buildah", append([]string{"--storage-driver", "vfs", "--root",
			images, "--runroot", storage}, args...)...)
	}
	if out, err := buildah("from", "scratch").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: buildah does not work here: %v %s", err, out)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := buildah(args...).Output()
		require.NoError(t, err, "%v", args)
		return strings.TrimSpace(string(out))
	}
	run("build", "--isolation", "chroot", "-t", "relukko",
		filepath.Join(dist, runtime.GOARCH, "container"))
	container := run("from", "relukko")
	require.Contains(t, run("run", "--isolation", "chroot", container, "--",
		"/usr/bin/relukko", "version"), "relukko ")
	require.Equal(t, "65532:65532", run("inspect", "--format", "{{.OCIv1.Config.User}}", container))

	root := run("mount", container)
	info, err := os.Stat(filepath.Join(root, "var/lib/relukko"))
	require.NoError(t, err)
	require.EqualValues(t, 65532, info.Sys().(*syscall.Stat_t).Uid)
	require.FileExists(t, filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	requireServes(t, root)
}
