package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrKeyFile is the error for a file that is there but cannot be trusted with a key, or to be one.
var ErrKeyFile = errors.New("it cannot be used as a file with an API key")

// KeepKey returns the API key in the file path. If there is no such file it makes a key and keeps
// it there, in one step: two that do this at the same time get the same key. The file belongs to
// this user, and no other user can read it at any time; one of which that is not so is an
// [ErrKeyFile], as is one without a whole key. With any other error the key is valid but not kept.
func KeepKey(path string) (key string, err error) {
	if key, err = readMadeKey(path); key != "" || errors.Is(err, ErrKeyFile) {
		return key, err
	}
	made := NewKey()
	temporary, err := writePrivate(path, made+"\n")
	if err != nil {
		return made, err
	}
	defer os.Remove(temporary)
	switch err := os.Link(temporary, path); { // unlike Rename it replaces nothing
	case errors.Is(err, fs.ErrExist):
		return KeepKey(path)
	case err != nil: // no links on this file system
		return made, os.Rename(temporary, path)
	}
	return made, nil
}

// PublishKey makes key the one that clients of this user find for the server at base.
func PublishKey(getenv func(string) string, base, key string) error {
	path := PublishedKey(getenv, base)
	if path == "" {
		return errors.New("there is no home directory")
	}
	return replacePrivate(path, key+"\n")
}

// readMadeKey returns the key that KeepKey or PublishKey has written, "" if there is no such file.
func readMadeKey(path string) (string, error) {
	f, err := openNoFollow(path)
	if err != nil {
		info, gone := os.Lstat(path)
		switch {
		case gone != nil:
			return "", nil
		case errors.Is(err, fs.ErrNotExist) && info.Mode().IsRegular(): // made in between
			return readMadeKey(path)
		}
		return "", refuseFile(path, "%v", errors.Unwrap(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", refuseFile(path, "%v", err)
	}
	if what := notPrivate(info); what != "" {
		return "", refuseFile(path, "%s", what)
	}
	content, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return "", refuseFile(path, "%v", err)
	}
	key, whole := strings.CutSuffix(string(content), "\n")
	if !whole || len(key) != 2*keyBytes || strings.Trim(key, "0123456789abcdef") != "" {
		return "", refuseFile(path, "it is damaged")
	}
	return key, nil
}

func refuseFile(path, format string, args ...any) error {
	return fmt.Errorf("%s: %s (%w)", path, fmt.Sprintf(format, args...), ErrKeyFile)
}

// writePrivate writes a new file beside path that only this user can read, and returns its path.
func writePrivate(path, content string) (temporary string, err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*") // its mode is 0600
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// replacePrivate makes content that of the file path, at one instant.
func replacePrivate(path, content string) error {
	temporary, err := writePrivate(path, content)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		os.Remove(temporary)
		return err
	}
	return nil
}
