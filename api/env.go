package api

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	envBaseURL = "RELUKKO_BASE_URL"
	envAPIKey  = "RELUKKO_API_KEY"

	defaultBaseURL = "http://localhost:3000"
)

// FromEnv returns the client that the environment describes:
//
//   - RELUKKO_BASE_URL: as for [New]; the default is http://localhost:3000
//   - RELUKKO_API_KEY: the API key; of several, separated by commas, the first. It is required,
//     with the error [ErrNoAPIKey], except in trust mode and with [WithAPIKeyFunc].
//   - REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE: see [RootCAsFromEnv]; ignored with [WithRootCAs]
//   - RELUKKO_TRUST_ME_IT_IS_LOCKED: trust mode, see [New]
//   - HTTP_PROXY, HTTPS_PROXY, NO_PROXY: see [http.ProxyFromEnvironment]
//
// A variable that is set to "" counts as not set. FromEnv sends no request.
func FromEnv(opts ...Option) (*Client, error) {
	conf := newConfig(opts)
	base := os.Getenv(envBaseURL)
	if base == "" {
		base = defaultBaseURL
	}
	key := firstKey(os.Getenv(envAPIKey))
	if os.Getenv(envTrust) == "" {
		if key == "" && conf.askKey == nil {
			return nil, fmt.Errorf("%w: set %s", ErrNoAPIKey, envAPIKey)
		}
		if conf.roots == nil {
			roots, err := RootCAsFromEnv()
			if err != nil {
				return nil, err
			}
			conf.roots = roots
		}
	}
	return newClient(envBaseURL, base, envAPIKey, key, conf)
}

// firstKey returns the first of the keys that are separated by commas. A server
// accepts all of them, so that a key can be replaced while clients use it.
func firstKey(keys string) string {
	if !strings.Contains(keys, ",") {
		return keys
	}
	for key := range strings.SplitSeq(keys, ",") {
		if key = strings.TrimSpace(key); key != "" {
			return key
		}
	}
	return ""
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
