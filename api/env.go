package api

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gitlab.com/relukko/relukko-go/internal/settings"
)

// FromEnv returns the client that the environment describes. It sends no request. These variables
// count; one that is set to "" counts as not set.
//
//   - RELUKKO_BASE_URL: as for [New]. The default is http://localhost:3000.
//   - RELUKKO_API_KEY: the API key, or RELUKKO_API_KEY_FILE: the path of a file with it. Of several
//     keys, separated by commas or line breaks, the first counts. Without a key the error is
//     [ErrNoAPIKey], except in trust mode and with [WithAPIKeyFunc].
//   - REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE: see [RootCAsFromEnv]; ignored with [WithRootCAs].
//   - RELUKKO_TRUST_ME_IT_IS_LOCKED: trust mode, see [New].
//   - HTTP_PROXY, HTTPS_PROXY, NO_PROXY: see [http.ProxyFromEnvironment].
//
// The first three may also be in a file with the syntax of systemd's EnvironmentFile: the user's,
// $XDG_CONFIG_HOME/relukko/client.env (or ~/.config/relukko/client.env), which relukko login
// writes, or else the machine's, /etc/relukko/client.env. For http://localhost:3000 and Unix sockets
// only, the last resort is the key that a server of the same user has generated there (relukko
// serve). The command line uses the same places in the same order.
func FromEnv(opts ...Option) (*Client, error) {
	conf := newConfig(opts)
	look := settings.Lookup{Getenv: os.Getenv}
	base, err := look.BaseURL()
	if err != nil {
		return nil, fmt.Errorf("relukko: %w", err)
	}
	var key settings.Setting
	if os.Getenv(envTrust) == "" {
		if conf.askKey == nil {
			if key, err = look.Key(base.Value); err != nil {
				return nil, noKey(err)
			}
		}
		if conf.roots == nil {
			if conf.roots, err = RootCAsFromEnv(); err != nil {
				return nil, err
			}
		}
	}
	return newClient(base.Origin, base.Value, key.Origin, key.Value, conf)
}

// noKey makes err an error of this package.
func noKey(err error) error {
	if none, ok := errors.AsType[*settings.NoKeyError](err); ok {
		return fmt.Errorf("%w: %s", ErrNoAPIKey, none.Reason)
	}
	return fmt.Errorf("relukko: %w", err)
}

// RootCAsFromEnv returns the system's certificates and those that REQUESTS_CA_BUNDLE names, or else
// CURL_CA_BUNDLE: a PEM file, or a directory of such files. It returns nil, nil if neither is set.
func RootCAsFromEnv() (*x509.CertPool, error) {
	for _, name := range []string{"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} {
		if path := os.Getenv(name); path != "" {
			roots, err := loadRoots(path)
			if err != nil {
				return nil, fmt.Errorf("relukko: %s: %w", name, err)
			}
			return roots, nil
		}
	}
	return nil, nil
}

// loadRoots adds the certificates in the file or directory path to the
// system's. A directory may have files without a certificate and with any name.
func loadRoots(path string) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = regularFiles(path); err != nil {
			return nil, err
		}
	}
	found := false
	var unread error
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			unread = errors.Join(unread, err)
			continue
		}
		found = roots.AppendCertsFromPEM(pem) || found
	}
	if !found {
		return nil, errors.Join(fmt.Errorf("no PEM certificate in %s", path), unread)
	}
	return roots, nil
}

// regularFiles returns the files in the directory dir, following symbolic links.
func regularFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries {
		file := filepath.Join(dir, entry.Name())
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			files = append(files, file)
		}
	}
	return files, nil
}
