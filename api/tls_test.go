package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/settings"
)

// authority is a certificate authority of the test's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	a := &authority{cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign,
	}}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// serve runs a backend on loopback whose certificate is a's, as change wants it.
func (a *authority) serve(t *testing.T, change func(*x509.Certificate)) string {
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(cert)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws/broadcast" {
			answer(200, testLock)(w, r)
			return
		}
		if conn, err := websocket.Accept(w, r, nil); err == nil {
			conn.Read(context.Background())
			conn.CloseNow()
		}
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der},
		PrivateKey: key}}}
	s.Config.ErrorLog = quiet
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func write(t *testing.T, path string, data []byte) string {
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

func clearEnv(t *testing.T) {
	for _, name := range []string{settings.BaseURL, settings.APIKeyFile, envTrust,
		"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "XDG_CONFIG_HOME", "XDG_STATE_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv(settings.APIKey, testKey)
}

// REQUESTS_CA_BUNDLE, else CURL_CA_BUNDLE, for HTTP and WebSocket alike.
func TestCertificatesFromTheEnvironment(t *testing.T) {
	ca := newAuthority(t)
	url := ca.serve(t, nil)
	file := write(t, filepath.Join(t.TempDir(), "ca.crt"), append([]byte("# a comment\n"),
		ca.pem...))
	dir := t.TempDir()
	write(t, filepath.Join(dir, "5d868fca.0"), ca.pem)
	write(t, filepath.Join(dir, "README"), []byte("hashed names"))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "dangling.0")))
	linked := t.TempDir()
	require.NoError(t, os.Symlink(file, filepath.Join(linked, "5d868fca.0")))
	other := write(t, filepath.Join(t.TempDir(), "ca.pem"), newAuthority(t).pem)

	tests := []struct {
		name           string
		requests, curl string
		ok             bool
	}{
		{"file", file, "", true},
		{"the other variable", "", file, true},
		{"the first counts", file, "/nowhere", true},
		{"directory", dir, "", true},
		{"directory of links", "", linked, true},
		{"none", "", "", false},
		{"another authority", other, file, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clearEnv(t)
			t.Setenv(settings.BaseURL, url)
			t.Setenv("REQUESTS_CA_BUNDLE", tt.requests)
			t.Setenv("CURL_CA_BUNDLE", tt.curl)
			c, err := FromEnv()
			require.NoError(t, err)
			defer c.Shutdown(t.Context())
			_, err = c.Get(t.Context(), testID)
			w, err2 := c.Watch(t.Context())
			require.NoError(t, err2)
			e := <-w.Events()
			if tt.ok {
				require.NoError(t, err)
				require.Equal(t, connected, e)
				return
			}
			require.ErrorContains(t, err, "certificate signed by unknown authority")
			require.True(t, NoEffect(err))
			require.False(t, Transient(err))
			require.Equal(t, disconnected, e)
		})
	}
}

func TestCertificatesThatCannotBeRead(t *testing.T) {
	empty := t.TempDir()
	junk := write(t, filepath.Join(t.TempDir(), "ca.pem"),
		[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	for path, says := range map[string]string{
		"/nowhere/ca.pem": "no such file",
		empty:             "no PEM certificate in " + empty,
		junk:              "no PEM certificate in " + junk,
		write(t, filepath.Join(t.TempDir(), "empty.pem"), nil): "no PEM certificate",
	} {
		clearEnv(t)
		t.Setenv("CURL_CA_BUNDLE", path)
		_, err := FromEnv()
		require.ErrorContains(t, err, "relukko: CURL_CA_BUNDLE: ")
		require.ErrorContains(t, err, says)
	}
}

// For HTTP and WebSocket alike; the error says what to do.
func TestCertificatesAreVerified(t *testing.T) {
	ca := newAuthority(t)
	for _, tt := range []struct {
		name, says, remedy string
		change             func(*x509.Certificate)
		distrust           bool
	}{
		{"another address", "not 127.0.0.1", "the base URL must name",
			func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }, false},
		{"a name only", "any IP SANs", "the base URL must name",
			func(c *x509.Certificate) {
				c.IPAddresses, c.DNSNames = nil, []string{"localhost"}
			}, false},
		{"expired", "has expired", "needs a new certificate",
			func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, false},
		{"not yet valid", "is not yet valid", "this machine's clock",
			func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, false},
		{"not for servers", "incompatible key u", "",
			func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			}, false},
		{"unknown authority", "signed by unknown authority", "REQUESTS_CA_BUNDLE", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clearEnv(t)
			t.Setenv(settings.BaseURL, ca.serve(t, tt.change))
			if !tt.distrust {
				t.Setenv("REQUESTS_CA_BUNDLE", write(t, filepath.Join(t.TempDir(), "ca.crt"),
					ca.pem))
			}
			log := new(lines)
			c, err := FromEnv(WithLogger(slog.New(slog.NewTextHandler(log,
				&slog.HandlerOptions{Level: slog.LevelDebug}))))
			require.NoError(t, err)
			defer func() { require.NoError(t, c.Shutdown(context.Background())) }()
			_, err = c.Get(t.Context(), testID)
			require.ErrorContains(t, err, tt.says)
			require.ErrorContains(t, err, tt.remedy)
			require.False(t, Transient(err), "and so not tried for a minute")
			require.True(t, NoEffect(err))

			w := watch(t, c)
			require.Equal(t, disconnected, <-w.Events())
			w.Close()
			require.Contains(t, log.String(), tt.says)
			require.Contains(t, log.String(), tt.remedy)
			require.NotContains(t, log.String(), testKey)
		})
	}
}

// WithRootCAs wins over the environment, and is for http and wss alike.
func TestCertificatesThatAreGiven(t *testing.T) {
	clearEnv(t)
	ca := newAuthority(t)
	url := ca.serve(t, nil)
	file := write(t, filepath.Join(t.TempDir(), "ca.crt"), ca.pem)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(ca.pem))

	fromEnv, err := RootCAsFromEnv()
	require.NoError(t, err)
	require.Nil(t, fromEnv)
	t.Setenv("REQUESTS_CA_BUNDLE", file)
	fromEnv, err = RootCAsFromEnv()
	require.NoError(t, err)

	for _, roots := range []*x509.CertPool{pool, fromEnv} {
		c := client(t, url, WithRootCAs(roots))
		_, err := c.Get(t.Context(), testID)
		require.NoError(t, err)
		w := watch(t, c)
		require.Equal(t, connected, <-w.Events())
		w.Close()
	}
	_, err = client(t, url).Get(t.Context(), testID)
	require.Error(t, err, "New does not look at the environment")

	t.Setenv("REQUESTS_CA_BUNDLE", "/nowhere")
	t.Setenv(settings.BaseURL, url)
	_, err = RootCAsFromEnv()
	require.ErrorContains(t, err, "relukko: REQUESTS_CA_BUNDLE: ")
	c, err := FromEnv(WithRootCAs(pool))
	require.NoError(t, err)
	_, err = c.Get(t.Context(), testID)
	require.NoError(t, err)
	require.NoError(t, c.Close())
}
