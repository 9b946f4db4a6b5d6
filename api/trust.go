package api

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// trust answers k as trust mode answers everything.
func (k *call) trust() {
	k.lock = Lock{
		ID: "00000000-0000-0000-0000-000000000000", Name: "WE TRUST YOU", Creator: "Dummy Dummy", IP: "0.0.0.0",
		ExpiresAt: time.Unix(0, 0).UTC(), CreatedAt: time.Unix(0, 0).UTC(), UpdatedAt: time.Unix(0, 0).UTC(),
	}
	k.list = []Lock{k.lock}
}

// warnTrust says loudly that nothing is locked.
func warnTrust(log *slog.Logger, base string) {
	if log == nil {
		log = slog.Default()
	}
	log.Warn("relukko: "+envTrust+" is set: NOTHING IS LOCKED, no request is made", "base_url", base)
}

// RootCAsFromEnv returns the system's certificates and those in the PEM file, or
// the directory of such files, that REQUESTS_CA_BUNDLE, else CURL_CA_BUNDLE
// names. It returns nil where neither is set.
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
// system's. In a directory files without a certificate do not matter, nor what
// they are called: hashed names need no special care.
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

// regularFiles are the files in the directory dir, through symbolic links too.
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
