//go:build linux

package packaging

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 30 * time.Second

// machine is a copy of this one, without a network, that runs a systemd and nothing else.
type machine struct {
	t    *testing.T
	init string // the pid of its systemd
}

// Nothing is started but what a test starts: units of the real machine would change its kernel.
const bootScript = `set -e
mount -t tmpfs tmpfs "$1"
root=$1/root
mkdir "$1/upper" "$1/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
cp "$2" "$root/relukko.deb"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
rm -rf "$root"/lib/systemd/system/*.wants "$root"/etc/systemd/system/*.wants
exec env container=other chroot "$root" /lib/systemd/systemd --unit=basic.target`

// boot starts the machine, or skips the test where that does not work.
func boot(t *testing.T) *machine {
	t.Helper()
	need(t, "unshare", "nsenter", "systemctl", "pgrep")
	packages(t)
	cmd := exec.Command("unshare", "-m", "-p", "-f", "-u", "-i", "-C", "-n", "--kill-child", "sh",
		"-c", bootScript, "sh", t.TempDir(), files(t, dist, "*.deb")[0])
	var said strings.Builder
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	stop := func() {
		cmd.Process.Kill()
		<-ended
	}
	m := &machine{t: t}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case <-ended:
			t.Skipf("NOT TESTED: systemd does not start here: %s", said.String())
		case <-time.After(100 * time.Millisecond):
		}
		pid, _ := exec.Command("pgrep", "-P", strconv.Itoa(cmd.Process.Pid)).Output()
		if m.init = strings.TrimSpace(string(pid)); m.init == "" {
			continue
		}
		if out, _ := m.try("systemctl is-active basic.target"); out == "active" {
			t.Cleanup(stop)
			return m
		}
	}
	stop()
	t.Skipf("NOT TESTED: systemd does not come up here: %s", said.String())
	return nil
}

// try runs a script on the machine, as a client of its server.
func (m *machine) try(script string) (stdout string, err error) {
	cmd := exec.Command("timeout", "60", "nsenter", "-t", m.init, "-m", "-p", "-u", "-i", "-C",
		"-n", "-r", "sh", "-ec", script)
	cmd.Env = append(os.Environ(), "RELUKKO_BASE_URL=unix:///run/relukko/relukko.sock",
		"RELUKKO_API_KEY_FILE=/var/lib/relukko/locks.db.key")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

func (m *machine) run(script string) (stdout string) {
	m.t.Helper()
	out, err := m.try(script)
	require.NoError(m.t, err, "%s\n%s", script, out)
	return out
}

// show returns a property of the service.
func (m *machine) show(property string) string {
	m.t.Helper()
	return m.run("systemctl show -P " + property + " relukko")
}

func (m *machine) await(property, value string) {
	m.t.Helper()
	require.Eventually(m.t, func() bool { return m.show(property) == value }, patience,
		100*time.Millisecond, "%s is not %s", property, value)
}

const settings = `cat >> /etc/relukko/server.env <<END
RELUKKO_BIND_ADDR=unix:/run/relukko/relukko.sock
RELUKKO_SERVE_FLAGS="--audit-log /var/log/relukko/audit.log --log-level debug"
END
`

// The service of the deb works with a real systemd.
func TestService(t *testing.T) {
	m := boot(t)
	m.run("dpkg -i /relukko.deb")
	require.Equal(t, "inactive", m.show("ActiveState"), "an installation starts nothing")
	m.run(settings + "systemctl start relukko") // which returns when it is ready
	require.Regexp(t, `(?m)^  state +up$`, m.run("relukko status"))
	require.Equal(t, "listening on unix:///run/relukko/relukko.sock, store "+
		"bolt:/var/lib/relukko/locks.db", m.show("StatusText"))
	require.Equal(t, "srw-rw---- relukko:relukko", m.run("stat -c '%A %U:%G' /run/relukko/*.sock"))
	require.Equal(t, "-rw------- relukko:relukko", m.run("stat -c '%A %U:%G' /var/log/relukko/*"))
	m.run("relukko acquire robot-arm-1 --for 5m")

	// The watchdog ends what hangs, and starts it again.
	m.run(`mkdir -p /run/systemd/system/relukko.service.d
		printf '[Service]\nWatchdogSec=2\n' > /run/systemd/system/relukko.service.d/w.conf
		systemctl daemon-reload; systemctl restart relukko; sleep 3`)
	require.Equal(t, "0", m.show("NRestarts"), "it was alive for longer than WatchdogSec")
	m.run("kill -STOP $(systemctl show -P MainPID relukko)")
	m.await("NRestarts", "1")
	m.await("ActiveState", "active")
	require.Contains(t, m.run("relukko ls"), "robot-arm-1")

	before := m.show("MainPID")
	m.run("systemctl reload relukko")
	require.Equal(t, before, m.show("MainPID"))
	m.run("dpkg -i /relukko.deb") // an upgrade
	require.NotEqual(t, before, m.show("MainPID"))
	require.Contains(t, m.run("relukko ls"), "robot-arm-1")

	m.run(`cp /etc/relukko/server.env /server.env
		echo 'RELUKKO_SERVE_FLAGS=--nonsense' >> /etc/relukko/server.env
		! systemctl restart relukko`)
	require.Equal(t, "failed", m.show("SubState"), "a wrong setting is not tried again")
	require.Equal(t, "64", m.show("ExecMainStatus"))
	m.run(`cp /server.env /etc/relukko/server.env; systemctl restart relukko`)

	m.run("dpkg -r relukko")
	require.NotEqual(t, "active", m.show("ActiveState"))
	m.run("test -f /var/lib/relukko/locks.db -a -f /etc/relukko/server.env")
}

// nightly is a program that takes a second to end, and says then whether the lock is held.
const nightly = `cat > /usr/bin/nightly-test <<'END'
#!/bin/sh
end() {
	sleep 1
	relukko ls | grep -c '^robot-arm-1 '
	exit 0
}
trap end TERM
echo begins
sleep 100 & wait
END
chmod +x /usr/bin/nightly-test
cat > /etc/relukko/nightly-test.env <<END
RELUKKO_BASE_URL=unix:///run/relukko/relukko.sock
RELUKKO_API_KEY=$(cat /var/lib/relukko/locks.db.key)
END
chmod 600 /etc/relukko/nightly-test.env
cp /usr/share/doc/relukko/examples/nightly-test.service /etc/systemd/system/
mkdir -p /etc/systemd/system/nightly-test.service.d
printf '[Service]\nStandardOutput=file:/nightly.log\nSupplementaryGroups=relukko\n' \
	> /etc/systemd/system/nightly-test.service.d/log.conf
systemctl daemon-reload
systemctl start nightly-test`

// A service that is stopped holds its lock until its program has ended.
func TestServiceThatHoldsALock(t *testing.T) {
	m := boot(t)
	m.run("dpkg -i /relukko.deb; " + settings + "systemctl start relukko\n" + nightly)
	require.Eventually(t, func() bool {
		out, _ := m.try("cat /nightly.log")
		return out == "begins"
	}, patience, 100*time.Millisecond)
	m.run("systemctl stop nightly-test")
	require.Equal(t, "begins\n1", m.run("cat /nightly.log"), "the lock was held to the end")
	require.Equal(t, "success", m.run("systemctl show -P Result nightly-test"))
	require.NotContains(t, m.run("relukko ls"), "robot-arm-1")
}
