package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "1d12h": 36 * time.Hour,
		"10": 10 * time.Second, "0.5": 500 * time.Millisecond, "0": 0,
	} {
		got, err := parseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-1s", "-1", "soon", "1y", "d", "1.5d", "99999d", "1d-1h", "NaN", "inf", "1e400", "106751d24h"} {
		_, err := parseDuration(text)
		require.Error(t, err, text)
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"0s": 0, "140ms": 142 * time.Millisecond, "9s": 9 * time.Second, "12s": 12345 * time.Millisecond, "1m": time.Minute,
		"3m07s": 187 * time.Second, "1h": time.Hour, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "2d03h": 51 * time.Hour,
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
	for _, text := range []string{"", "tomorrow", "18:00", "2031-05-01", "1930000000", "2031-05-01 18", "2031-13-01 18:00", "2031-05-01 18:00 Z"} {
		_, err := parseTime(text)
		require.Error(t, err, text)
	}
}

func TestBindAddr(t *testing.T) {
	for addr, want := range map[string]string{
		"": "127.0.0.1:3000", "0.0.0.0": "0.0.0.0:3000", "0.0.0.0:80": "0.0.0.0:80", ":0": ":0", "::": "[::]:3000", "[::1]": "[::1]:3000",
		"[::1]:0": "[::1]:0", "localhost": "localhost:3000", "fe80::1%eth0": "[fe80::1%eth0]:3000",
	} {
		t.Setenv(envBindAddr, "")
		require.Equal(t, want, bindAddr(addr))
		t.Setenv(envBindAddr, addr)
		require.Equal(t, want, bindAddr(""))
		require.Equal(t, "192.0.2.1:1", bindAddr("192.0.2.1:1"), "the flag wins")
	}
}

func TestStoreSpec(t *testing.T) {
	t.Setenv(envDatabaseURL, "")
	t.Setenv("HOME", "/home/ada")
	t.Setenv("XDG_STATE_HOME", "")
	of := func(flag string) string {
		t.Helper()
		spec, err := storeSpec(flag)
		if err != nil {
			return "error: " + err.Error()
		}
		return spec
	}
	require.Equal(t, "bolt:/home/ada/.local/state/relukko/locks.db", of(""))
	t.Setenv("XDG_STATE_HOME", "/var/state")
	require.Equal(t, "bolt:/var/state/relukko/locks.db", of(""))
	t.Setenv("XDG_STATE_HOME", "not/absolute")
	require.Equal(t, "bolt:/home/ada/.local/state/relukko/locks.db", of(""))
	t.Setenv("HOME", "")
	require.Contains(t, of(""), "error: there is no place to keep the locks")
	require.Equal(t, "memory", of("memory"))
	require.Equal(t, "bolt:x", of("bolt:x"))
	t.Setenv(envDatabaseURL, "postgresql://db/relukko")
	require.Equal(t, "postgresql://db/relukko", of(""))
	require.Equal(t, "bolt:x", of("bolt:x"), "the flag wins")
	t.Setenv(envDatabaseURL, "mysql://user:secret@db/relukko")
	require.Contains(t, of(""), "error: DATABASE_URL does not begin with postgres://")
	require.NotContains(t, of(""), "secret")
	for _, wrong := range []string{"bolt:", "bolt", "sqlite:x", "x", "/x"} {
		require.Contains(t, of(wrong), "error: --store is none of bolt:PATH, memory, postgres://…")
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

func TestKeys(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"new", "old"}, splitKeys("new,old"))
	require.Equal(t, []string{"new", "old", "older"}, splitKeys(" new ,\r\n\nold,older\n"))
	require.Empty(t, splitKeys(" \n,"))
}

func TestClip(t *testing.T) {
	t.Parallel()
	require.Equal(t, "abc", clip("abc", 3))
	require.Equal(t, "a…", clip("abc", 2))
	require.Equal(t, "ü…", clip("üüü", 2))
	require.Equal(t, "…", clip("abc", 1))
}

// Errors of the network say what to do.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	const base = "http://relukko.example"
	for want, err := range map[string]error{
		"no Relukko backend at http://relukko.example: relukko.example: no such host. Check --url or RELUKKO_BASE_URL": &net.DNSError{Name: "relukko.example", Err: "no such host"},
		"no answer from http://relukko.example in time. Is the address right, and is the network up?":                  context.DeadlineExceeded,
		"no answer from http://relukko.example: cut":                                                                   errors.New("relukko: cut"),
		`no answer from http://relukko.example: lock "x": not acquired: cut`:                                           errors.New(`relukko: lock "x": not acquired: relukko: cut`),
		"the certificate of http://relukko.example is for another address: x509: certificate is valid for other.example, not relukko.example. Have --url or RELUKKO_BASE_URL name it as its certificate does": &tls.CertificateVerificationError{
			Err: x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"other.example"}}, Host: "relukko.example"}},
	} {
		require.Equal(t, &failure{statusUnavailable, want}, explain(err, base))
	}
}

func TestPlainIsOneLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "PostgreSQL: failed to connect to `user=u`: 127.0.0.1: refused 127.0.0.2: \ufffd[2Jrefused",
		plain(errors.New("relukko: PostgreSQL: failed to connect to `user=u`:\n\t127.0.0.1: refused\n\t127.0.0.2: \x1b[2Jrefused")))
}

func TestTooLate(t *testing.T) {
	t.Parallel()
	const base = "http://relukko.example"
	require.Equal(t, "no answer from http://relukko.example within 5s. Is the address right, and is the network up?",
		tooLate(context.DeadlineExceeded, base, 5*time.Second))
	require.Equal(t, "no answer from http://relukko.example within 5s (before that: 503 Service Unavailable)",
		tooLate(errors.New("relukko: list locks: context deadline exceeded (before that: 503 Service Unavailable)"), base, 5*time.Second))
}
