package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"gitlab.com/relukko/relukko-go/server/access"
)

const maxKeysFile = 16 << 20 // bytes

// readKeysFile reads the keys in a file of relukko serve --keys.
func readKeysFile(path string) ([]access.Key, error) {
	content, err := keysFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := access.Parse(strings.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// appendKey appends a key to such a file, which it makes if it is not there: then only this user
// can read it. The file is not changed if it has an error, or if the line cannot be written.
func appendKey(path string, key *access.Key) error {
	content, err := keysFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	line := key.String() + "\n"
	if content != "" && !strings.HasSuffix(content, "\n") {
		line = "\n" + line
	}
	if _, err := access.Parse(strings.NewReader(content + line)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteString(line); err != nil { // else in one step, for a server that reads it
		err = errors.Join(err, f.Truncate(int64(len(content))))
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// keysFile returns the content of a file of keys. It refuses one that every user can write to.
func keysFile(path string) (string, error) {
	info, err := os.Stat(path) // before it is opened, which may block
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s: it is no regular file, which can be read again", path)
	case info.Mode().Perm()&0o002 != 0 && runtime.GOOS != "windows": // there it has no meaning
		return "", fmt.Errorf("%s: every user may write to it: chmod o-w", path)
	case info.Size() > maxKeysFile:
		return "", fmt.Errorf("%s: it is larger than 16 MiB", path)
	}
	content, err := os.ReadFile(path)
	return string(content), err
}
