package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/unixsock"
	"gitlab.com/relukko/relukko-go/relukkotest"
)

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute,
		"2d": 48 * time.Hour, "1d12h": 36 * time.Hour,
		"10": 10 * time.Second, "0.5": 500 * time.Millisecond, "0": 0,
	} {
		got, err := parseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-1s", "-1", "soon", "1y", "d", "1.5d", "99999d", "1d-1h",
		"NaN", "inf", "1e400", "106751d24h"} {
		_, err := parseDuration(text)
		require.Error(t, err, text)
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"0s": 0, "140ms": 142 * time.Millisecond, "9s": 9 * time.Second,
		"12s": 12345 * time.Millisecond, "1m": time.Minute, "3m07s": 187 * time.Second,
		"1h": time.Hour, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "2d03h": 51 * time.Hour,
		"-3m07s": -187 * time.Second,
	} {
		require.Equal(t, want, short(d))
	}
	require.NotPanics(t, func() { short(-1 << 63) })
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2031-05-01T18:00:00Z":         time.Date(2031, 5, 1, 18, 0, 0, 0, time.UTC),
		"2031-05-01 18:00:00Z":         time.Date(2031, 5, 1, 18, 0, 0, 0, time.UTC),
		"2031-05-01T18:00:00.25+02:00": time.Date(2031, 5, 1, 16, 0, 0, 250e6, time.UTC),
		"2031-05-01 18:00":             time.Date(2031, 5, 1, 18, 0, 0, 0, time.Local),
		"2031-05-01T18:00:30":          time.Date(2031, 5, 1, 18, 0, 30, 0, time.Local),
	} {
		got, err := parseTime(text)
		require.NoError(t, err, text)
		require.True(t, got.Equal(want), "%s: %v", text, got)
	}
	for _, text := range []string{"", "tomorrow", "18:00", "2031-05-01", "1930000000",
		"2031-05-01 18", "2031-13-01 18:00", "2031-05-01 18:00 Z"} {
		_, err := parseTime(text)
		require.Error(t, err, text)
	}
}

// with is a program with an environment.
func with(env ...string) *program { return &program{Invocation: Invocation{Env: env}} }

func TestBindAddr(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"":                    "tcp4 127.0.0.1:3000",
		"0.0.0.0":             "tcp4 0.0.0.0:3000",
		"0.0.0.0:80":          "tcp4 0.0.0.0:80",
		":0":                  "tcp :0",
		"::":                  "tcp [::]:3000",
		"[::1]":               "tcp [::1]:3000",
		"[::1]:0":             "tcp [::1]:0",
		"localhost":           "tcp localhost:3000",
		"fe80::1%eth0":        "tcp [fe80::1%eth0]:3000",
		"3907":                `"3907" is only a port: write 127.0.0.1:3907, or :3907`,
		"unix:/run/a.sock":    "unix /run/a.sock",
		"unix:///run//a.sock": "unix /run/a.sock",
		"unix:a.sock":         "the whole path of the socket must follow",
		"/run/a.sock":         `"/run/a.sock" is a path: for a Unix socket write unix:/run/a.sock`,
		"http://host:1":       `"http://host:1" is not an address like 127.0.0.1:3000`,
	} {
		for _, p := range []*program{with(), with(envBindAddr + "=" + addr)} {
			flag := addr
			if len(p.Env) > 0 {
				flag = ""
			}
			network, got, err := p.bindAddr(flag)
			if err != nil {
				require.ErrorContains(t, err, want)
				continue
			}
			require.Equal(t, want, network+" "+got)
			_, got, err = p.bindAddr("192.0.2.1:1")
			require.NoError(t, err)
			require.Equal(t, "192.0.2.1:1", got, "the flag wins")
		}
	}
}

func TestStoreSpec(t *testing.T) {
	t.Setenv("HOME", "") // what is used where the program's environment has none
	const home, state = "HOME=/home/ada", "XDG_STATE_HOME=/var/state"
	for name, row := range map[string]struct {
		env        []string
		flag, want string
	}{
		"home": {env: []string{home},
			want: "bolt:/home/ada/.local/state/relukko/locks.db"},
		"state directory": {env: []string{home, state},
			want: "bolt:/var/state/relukko/locks.db"},
		"not absolute": {env: []string{home, "XDG_STATE_HOME=x"},
			want: "bolt:/home/ada/.local/state/relukko/locks.db"},
		"neither": {want: "error: there is no directory for the locks"},
		"memory":  {flag: "memory", want: "memory"},
		"bolt":    {flag: "bolt:x", want: "bolt:x"},
		"PostgreSQL": {env: []string{"DATABASE_URL=postgresql://db/x"},
			want: "postgresql://db/x"},
		"the flag wins": {env: []string{"DATABASE_URL=postgresql://db/x"}, flag: "bolt:x",
			want: "bolt:x"},
		"another database": {env: []string{"DATABASE_URL=mysql://u:secret@db/x"},
			want: "error: DATABASE_URL does not begin with postgres://"},
		"bolt without a path": {flag: "bolt:",
			want: "error: --store is none of bolt:PATH, memory, postgres://…"},
		"bolt without a colon": {flag: "bolt",
			want: "error: --store is none of bolt:PATH, memory, postgres://…"},
		"another kind": {flag: "sqlite:x",
			want: "error: --store is none of bolt:PATH, memory, postgres://…"},
		"a name": {flag: "x",
			want: "error: --store is none of bolt:PATH, memory, postgres://…"},
		"a path": {flag: "/x",
			want: "error: --store is none of bolt:PATH, memory, postgres://…"},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := with(row.env...).storeSpec(row.flag)
			if text, wrong := strings.CutPrefix(row.want, "error: "); wrong {
				require.ErrorContains(t, err, text)
				require.NotContains(t, err.Error(), "secret")
				return
			}
			require.NoError(t, err)
			require.Equal(t, row.want, spec)
		})
	}
}

func TestTheStoreIsShownWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"memory": "memory", "bolt:/x": "bolt:/x",
		"postgres://user:secret@db:5432/relukko?sslpassword=secret": "postgres://db:5432/relukko",
		"postgres://user:sec%zzret@db/relukko":                      "postgres",
	} {
		require.Equal(t, want, showStore(spec))
	}
}

// Errors of the network say what to do.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	const base = "http://relukko.example"
	for want, err := range map[string]error{
		"no Relukko backend at " + base + ": relukko.example: no such host. " +
			"Check --url or RELUKKO_BASE_URL": &net.DNSError{Name: "relukko.example",
			Err: "no such host"},
		"no answer from " + base +
			" in time. Is the address right, and is the network up?": context.DeadlineExceeded,
		"no answer from " + base +
			": cut": errors.New("relukko: cut"),
		"cannot connect to " + base + ": gone. Start one with `relukko serve --addr " + base +
			"`, or set RELUKKO_BASE_URL": &unixsock.DialError{Problem: "gone", Err: fs.ErrNotExist},
		"cannot connect to " + base + ": denied. Use an account that may use it, or see " +
			"--socket-mode in `relukko serve --help`": &unixsock.DialError{Problem: "denied",
			Err: fs.ErrPermission},
		"cannot connect to " + base + ": wrong. Check --url or RELUKKO_BASE_URL: it must end " +
			"with the name of the socket": &unixsock.DialError{Problem: "wrong",
			Err: syscall.ENOTDIR},
		"no answer from " + base + `: lock "x": not acquired: cut`: errors.New(
			`relukko: lock "x": not acquired: relukko: cut`),
		"the certificate of " + base + " is for another address: x509: certificate is valid for " +
			"other.example, not relukko.example. Use an address that the certificate has " +
			"in --url or RELUKKO_BASE_URL": &tls.CertificateVerificationError{
			Err: x509.HostnameError{
				Certificate: &x509.Certificate{DNSNames: []string{"other.example"}},
				Host:        "relukko.example"}},
	} {
		f := explain(err, base)
		require.Equal(t, statusUnavailable, f.status)
		require.Equal(t, want, f.Error())
	}
}

func TestPlainIsOneLine(t *testing.T) {
	t.Parallel()
	require.Equal(t,
		"PostgreSQL: failed to connect to `user=u`: 127.0.0.1: refused 127.0.0.2: \ufffd[2Jrefused",
		plain(errors.New("relukko: PostgreSQL: failed to connect to `user=u`:\n"+
			"\t127.0.0.1: refused\n\t127.0.0.2: \x1b[2Jrefused")))
}

// A time-out says what went wrong before it.
func TestTooLate(t *testing.T) {
	t.Parallel()
	s := relukkotest.NewServer(t)
	hold := s.Hold(nil)
	defer hold.Release()
	status, _, stderr := run(t, of(s), "ls", "--timeout", "200ms")
	require.Equal(t, statusUnavailable, status)
	require.Equal(t, "relukko: no answer from "+s.URL+" within 200ms. "+
		"Is the address right, and is the network up?\n", stderr)

	hold.Release()
	s.AnswerNext(1, nil, relukkotest.Answer{Status: 503, Body: "restarting"})
	hold = s.Hold(nil)
	defer hold.Release()
	status, _, stderr = run(t, of(s), "ls", "--timeout", "500ms")
	require.Equal(t, statusUnavailable, status)
	require.Contains(t, stderr, "within 500ms; before that: "+s.URL+
		" could not list locks (503 Service Unavailable")
}
