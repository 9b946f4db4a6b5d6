//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// dial opens a connection to s and sends something.
func (s *serving) dial(send string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, send)
	require.NoError(s.t, err)
	return conn
}

func (s *serving) request(format string, args ...any) string {
	return fmt.Sprintf(format, args...) + "\r\nHost: relukko\r\nX-API-KEY: " + s.key + "\r\n"
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, key := store(t), []string{envKey + "=k"}
			s := serveWith(t, key, "--store", db)
			_, err := s.client().Create(t.Context(), "arm", "Ada")
			require.NoError(t, err)

			// Waiters by HTTP and by the program, a watcher, a connection without a
			// request and one with half of it.
			body := `{"lock_name":"arm","creator":"by hand"}`
			byHand := s.dial(s.request("POST /v1/locks/ HTTP/1.1") +
				fmt.Sprintf("Prefer: wait=30\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
			var waiters []*process
			for range 3 {
				waiters = append(waiters, launch(t, s.env(), []string{"run", "arm", "--", "true"}))
			}
			eventually(t, "all wait", func() bool {
				lock, err := s.client().List(t.Context())
				return err == nil && lock[0].Waiters == 4
			})
			watcher, _, err := websocket.Dial(t.Context(), s.url+"/ws/broadcast",
				&websocket.DialOptions{HTTPHeader: http.Header{"X-Api-Key": {s.key}}})
			require.NoError(t, err)
			defer watcher.CloseNow()
			closed := make(chan error, 1)
			go func() {
				_, _, err := watcher.Read(context.Background())
				closed <- err
			}()
			s.dial("")
			s.dial("GET /v1/lo")

			s.stop()
			answer, err := http.ReadResponse(bufio.NewReader(byHand), nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
			require.Equal(t, "0", answer.Header.Get("Retry-After"))
			require.True(t, answer.Close)
			require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(<-closed))
			_, err = net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			require.ErrorIs(t, err, syscall.ECONNREFUSED)

			// When the server is back, the waiters go on waiting, and get the lock.
			s = serveWith(t, key, "--store", db, "--addr", strings.TrimPrefix(s.url, "http://"))
			status, _, stderr := run(t, s.env(), "rm", "arm")
			require.Zero(t, status, stderr)
			for _, p := range waiters {
				require.Zero(t, p.awaitEnd(), p.stderr)
			}
			s.stop()
		})
	}
}

// Requests that have begun are answered. A create without effect may be sent again immediately.
func TestShutdownAnswersRequestsThatHaveBegun(t *testing.T) {
	t.Parallel()
	db := boltAt(t)
	s := serveWith(t, []string{envKey + "=k"}, "--store", db, "--log-level", "debug")
	lock, err := s.client().Create(t.Context(), "arm", "Ada")
	require.NoError(t, err)
	renewal := s.begin("PUT /v1/locks/"+lock.ID+"/keep_alive", `{"seconds":3600}`)
	create := s.begin("POST /v1/locks/", `{"lock_name":"leg","creator":"Ada"}`)
	s.signal(syscall.SIGTERM)
	s.stderr.await(t, "msg=ending")
	require.Equal(t, http.StatusOK, renewal().StatusCode)
	answer := create()
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	require.Equal(t, "0", answer.Header.Get("Retry-After"))
	require.Zero(t, s.awaitEnd(), s.stderr)

	s = serveWith(t, []string{envKey + "=k"}, "--store", db)
	locks, err := s.client().List(t.Context())
	require.NoError(t, err)
	require.Len(t, locks, 1)
	require.Equal(t, lock.ID, locks[0].ID)
	require.Greater(t, locks[0].ExpiresAt.Sub(lock.ExpiresAt), 40*time.Minute)
	s.stop()
}

// begin sends the header of a request, and returns when it is being served. The function that it
// returns sends the body and returns the response.
func (s *serving) begin(request, body string) (finish func() *http.Response) {
	s.t.Helper()
	conn := s.dial(s.request("%s HTTP/1.1", request) +
		fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body)))
	answers := bufio.NewReader(conn)
	line, err := answers.ReadString('\n')
	require.NoError(s.t, err)
	require.Contains(s.t, line, "100 Continue")
	_, err = answers.ReadString('\n')
	require.NoError(s.t, err)
	return func() *http.Response {
		_, err := io.WriteString(conn, body)
		require.NoError(s.t, err)
		answer, err := http.ReadResponse(answers, nil)
		require.NoError(s.t, err)
		return answer
	}
}

func TestASecondSignalEndsServeAtOnce(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := serveWith(t, nil, "--store", boltAt(t))
			conn := s.dial(s.request("POST /v1/locks/ HTTP/1.1") +
				"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n")
			line, err := bufio.NewReader(conn).ReadString('\n')
			require.NoError(t, err)
			require.Contains(t, line, "100 Continue") // it is being served, and waited for
			s.signal(sig)
			s.stderr.await(t, "msg=ending")
			began := time.Now()
			s.signal(sig)
			require.Equal(t, 128+int(sig), s.awaitEnd())
			require.Less(t, time.Since(began), time.Second)
		})
	}
}

// Slow headers and headers that are too large end a connection.
func TestServeLimitsHeaders(t *testing.T) {
	t.Parallel()
	s := serveWith(t, nil, "--store", "memory")
	slow := s.dial("GET /v1/locks HTTP/1.1\r\nX-Slow: lo")
	began := time.Now()

	much := s.dial("GET /healthchecker HTTP/1.1\r\nHost: relukko\r\nX-Much: " +
		strings.Repeat("x", 2*16<<10) + "\r\n\r\n")
	answer, err := http.ReadResponse(bufio.NewReader(much), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, answer.StatusCode)

	_, err = slow.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.InDelta(t, 10, time.Since(began).Seconds(), 2)
	s.stop()
}

// certificate makes one for 127.0.0.1.
func certificate(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	encoded := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return writeFile(t, "cert.pem", encoded("CERTIFICATE", der)),
		writeFile(t, "key.pem", encoded("PRIVATE KEY", private))
}

func TestServeTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	s := serveWith(t, nil, "--store", "memory", "--tls-cert", cert, "--tls-key", key)
	require.True(t, strings.HasPrefix(s.url, "https://"))
	trusting := append(s.env(), "REQUESTS_CA_BUNDLE="+cert)

	holder := launch(t, trusting,
		append([]string{"run", "--ttl", "3s", "arm", "--"}, family("sleep 100")...))
	require.Equal(t, "ready", holder.line())
	watcher := launch(t, trusting, []string{"watch"})
	watcher.stderr.await(t, "watching https://")
	for !strings.Contains(watcher.line(), "updated  arm") {
	}
	status, _, stderr := run(t, trusting, "--url", s.url, "rm", "arm")
	require.Zero(t, status, stderr)
	require.Equal(t, 76, holder.awaitEnd())
	status, _, stderr = run(t, []string{"REQUESTS_CA_BUNDLE=" + cert}, "health", s.url)
	require.Zero(t, status, stderr)

	status, _, stderr = run(t, s.env(), "ls")
	require.Equal(t, 69, status)
	require.Contains(t, stderr, "the certificate of "+s.url+" is not trusted")
	require.Contains(t, stderr, "Set REQUESTS_CA_BUNDLE")
	status, _, stderr = run(t, s.env(), "run", "arm", "--", "true")
	require.Equal(t, 69, status, stderr)
	require.Contains(t, stderr, "is not trusted")
	status, _, stderr = run(t,
		append(s.env(), envURL+"="+strings.Replace(s.url, "https", "http", 1)), "ls")
	require.Equal(t, 69, status, stderr)
	s.stop()
	require.NotContains(t, s.stderr.String(), "WARN")
}

// SIGHUP does not end a server. It reads its files again, and goes on with what it
// has where that fails.
func TestSIGHUPReloadsKeysAndCertificate(t *testing.T) {
	t.Parallel()
	keys := writeFile(t, "keys", "first\n")
	cert, key := certificate(t)
	s := launch(t, nil, []string{"serve", "--addr", "127.0.0.1:0", "--store", "memory",
		"--api-key-file", keys, "--tls-cert", cert, "--tls-key", key})
	url := firstLine.FindStringSubmatch(s.stderr.await(t, "\n"))[1]
	lists := func(apiKey, roots string) int {
		status, _, _ := run(t, []string{envURL + "=" + url, envKey + "=" + apiKey,
			"REQUESTS_CA_BUNDLE=" + roots}, "ls")
		return status
	}
	require.Zero(t, lists("first", cert))
	require.Equal(t, 69, lists("second", cert))

	newCert, newKey := certificate(t)
	for to, from := range map[string]string{cert: newCert, key: newKey} {
		content, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, content, 0o600))
	}
	require.NoError(t, os.WriteFile(keys, []byte("second\n"), 0o600))
	s.signal(syscall.SIGHUP)
	s.stderr.await(t, "reloaded the certificate")
	s.stderr.await(t, "reloaded the API keys")
	require.Zero(t, lists("second", newCert))
	require.Equal(t, 69, lists("first", newCert))

	require.NoError(t, os.WriteFile(keys, nil, 0o600))
	s.signal(syscall.SIGHUP)
	s.stderr.await(t, "could not reload the API keys")
	require.Zero(t, lists("second", newCert))
	s.signal(syscall.SIGTERM)
	require.Zero(t, s.awaitEnd(), s.stderr)
}

// Keys with names are accepted, and read again; a faulty file changes nothing. The audit log has
// what was refused, and what was done to the locks of others, and is opened again on SIGHUP.
func TestKeysFileAndAuditLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, audit := filepath.Join(dir, "keys"), filepath.Join(dir, "audit.log")
	secretOf := func(name, role string, more ...string) string {
		status, secret, stderr := run(t, nil,
			append([]string{"key", "new", name, "--role", role, "--file", keys}, more...)...)
		require.Zero(t, status, stderr)
		return strings.TrimSpace(secret)
	}
	ada, bob := secretOf("ada", "user", "--pattern", "bench-*"), secretOf("bob", "user")
	root, eve := secretOf("root", "admin"), secretOf("eve", "viewer")
	s := launch(t, []string{"RELUKKO_KEYS_FILE=" + keys}, []string{"serve", "--addr",
		"127.0.0.1:0", "--store", "memory", "--audit-log", audit})
	url := firstLine.FindStringSubmatch(s.stderr.await(t, "\n"))[1]
	as := func(secret string, args ...string) (int, string) {
		env := []string{envURL + "=" + url, envKey + "=" + secret}
		status, stdout, stderr := run(t, env, args...)
		return status, stdout + stderr
	}
	for _, row := range []struct {
		secret string
		args   []string
		status int
		says   string
	}{
		{bob, []string{"acquire", "desk"}, 0, "-"},
		{ada, []string{"run", "bench-1", "--", "true"}, 0, ""},
		{ada, []string{"run", "desk", "--", "true"}, 69, `lock "desk": the key "ada" may create ` +
			`and change only locks whose names match bench-*). Set RELUKKO_API_KEY to a key that`},
		{eve, []string{"run", "desk", "--", "true"}, 69, `lock "desk": the key "eve" has the ` +
			`role viewer, which may only read: this needs the role user or admin`},
		{eve, []string{"ls"}, 0, "desk"},
		{eve, []string{"rm", "desk"}, 69, `(403 Forbidden: lock "desk" of the key "bob": the key ` +
			`"eve" has the role viewer, which may only read: this needs the role admin). Set`},
		{ada, []string{"rm", "desk"}, 69, `lock "desk" of the key "bob": the key "ada" may`},
		{ada, []string{"extend", "desk", "--add", "1h"}, 69, `lock "desk" of the key "bob": `},
		{ada, []string{"extend", "desk", "--for", "1h"}, 69, `lock "desk" of the key "bob": `},
		{ada, []string{"set", "desk", "--creator", "x"}, 69, `lock "desk" of the key "bob": `},
		{ada, []string{"status"}, 0, "role     user"},
		{root, []string{"extend", "desk", "--add", "1h"}, 0, "desk"},
		{root, []string{"rm", "desk", "--reason", "it smokes"}, 0, "deleted desk"},
	} {
		status, said := as(row.secret, row.args...)
		require.Equal(t, row.status, status, said)
		require.Contains(t, said, row.says, "%v", row.args)
	}
	content, err := os.ReadFile(audit)
	require.NoError(t, err)
	for _, line := range []string{
		`"level":"WARN","msg":"refused","action":"create","key":"ada","role":"user","lock":"desk",`,
		`"msg":"refused","action":"delete","key":"eve","role":"viewer","owner":"bob",`,
		`"level":"INFO","msg":"a lock was changed by another than its owner","action":"update",` +
			`"key":"root","role":"admin","owner":"bob","lock":"desk","id":"`,
		`"msg":"a lock was released by another than its holder","action":"delete","key":"root",`,
		`(it smokes)"}`,
	} {
		require.Contains(t, string(content), line)
	}
	for _, secret := range []string{ada, bob, root, eve} {
		require.NotContains(t, string(content)+s.stderr.String(), secret)
	}

	// ada's key goes with an error elsewhere: nothing changes. Then without the error.
	lines, err := os.ReadFile(keys)
	require.NoError(t, err)
	_, others, _ := strings.Cut(string(lines), "\n")
	require.NoError(t, os.Rename(audit, audit+".1"))
	require.NoError(t, os.WriteFile(keys, []byte(others+"eve root x\n"), 0o600))
	s.signal(syscall.SIGHUP)
	warning := s.stderr.await(t, "could not reload the API keys")
	require.Contains(t, warning, `line 4: \"root\"`)
	status, said := as(ada, "ls")
	require.Zero(t, status, said)
	require.NoError(t, os.WriteFile(keys, []byte(others), 0o600))
	s.signal(syscall.SIGHUP)
	s.stderr.await(t, "reloaded the API keys")
	status, said = as(ada, "ls")
	require.Equal(t, 69, status, said)
	content, err = os.ReadFile(audit)
	require.NoError(t, err)
	require.Contains(t, string(content), `"msg":"refused: wrong or missing X-API-KEY"`)
	s.signal(syscall.SIGTERM)
	require.Zero(t, s.awaitEnd(), s.stderr)
}
