package settings

import (
	"net"
	"net/url"
	"os"
	"path/filepath"

	"gitlab.com/relukko/relukko-go/internal/unixsock"
)

// defaultPort can be set at link time, for tests of what happens at the default address.
var defaultPort = "3000"

// DefaultURL returns the URL of the backend of a client that is told of none.
func DefaultURL() string { return "http://localhost:" + defaultPort }

// DefaultPort returns the port of a server, and of DefaultURL.
func DefaultPort() string { return defaultPort }

// isDefaultURL reports whether base is DefaultURL, or the same by its address.
func isDefaultURL(base string) bool {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.User != nil || u.Port() != defaultPort {
		return false
	}
	local := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	return local && (u.Path == "" || u.Path == "/")
}

// UserFile returns the path of the user's file with settings, "" if there is no home directory.
func UserFile(getenv func(string) string) string {
	return inHome(getenv, "XDG_CONFIG_HOME", ".config", "client.env")
}

// PublishesKey reports whether clients of the same user look for the key of a server at base: at
// DefaultURL, and on Unix sockets.
func PublishesKey(base string) bool { return publishedName(base) != "" }

// PublishedKey returns the path of the file with the key of this user's server at base, "" if
// clients look for none there, or if there is no home directory.
func PublishedKey(getenv func(string) string, base string) string {
	name := publishedName(base)
	if name == "" {
		return ""
	}
	return StateFile(getenv, name)
}

// publishedName returns the name of the file with the key of a server at base. Each socket has a
// file of its own.
func publishedName(base string) string {
	path, isSocket, err := unixsock.Parse(base)
	switch {
	case isSocket && err == nil:
		return "local" + url.PathEscape(path) + ".key"
	case isDefaultURL(base):
		return "local.key"
	}
	return ""
}

// StateFile returns the path of a file in the user's state directory, "" if there is no home
// directory.
func StateFile(getenv func(string) string, name string) string {
	return inHome(getenv, "XDG_STATE_HOME", filepath.Join(".local", "state"), name)
}

// inHome returns the path of a file below the directory that the variable names, or else below
// that directory of the user's home.
func inHome(getenv func(string) string, variable, elsewhere, name string) string {
	dir := getenv(variable)
	if !filepath.IsAbs(dir) { // the XDG specification says to ignore others
		home := getenv("HOME")
		if home == "" {
			home = getenv("USERPROFILE") // of Windows
		}
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, elsewhere)
	}
	return filepath.Join(dir, "relukko", name)
}

// readIfThere returns the content of a file; nothing if the file is not there, or in a directory
// that this user cannot search.
func readIfThere(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		if _, unseen := os.Stat(path); unseen != nil {
			return "", nil
		}
	}
	return string(content), err
}
