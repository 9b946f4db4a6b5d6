package settings

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// home is a user's home directory, and the environment that goes with it.
type home struct {
	t    *testing.T
	dir  string
	vars map[string]string
}

func newHome(t *testing.T) *home {
	t.Helper()
	dir := t.TempDir()
	old := systemFile
	systemFile = filepath.Join(dir, "etc", "relukko", "client.env")
	t.Cleanup(func() { systemFile = old })
	return &home{t, dir, map[string]string{"HOME": dir}}
}

func (h *home) getenv(name string) string { return h.vars[name] }

// write writes a file and returns its path.
func (h *home) write(path, content string) string {
	h.t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(h.dir, path)
	}
	require.NoError(h.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(h.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func (h *home) userFile() string { return UserFile(h.getenv) }

// Each place wins over those below it.
func TestOrderOfPlaces(t *testing.T) {
	h := newHome(t)
	look := Lookup{Getenv: h.getenv}
	require.NoError(t, PublishKey(h.getenv, DefaultURL(), NewKey()))
	local, err := look.Key(DefaultURL())
	require.NoError(t, err)
	require.Equal(t, PublishedKey(h.getenv, DefaultURL()), local.Origin)

	for _, place := range []struct {
		name string
		set  func()
		url  Setting
		key  Setting
	}{
		{"none", func() {}, Setting{DefaultURL(), "the default"}, local},
		{"the machine's file",
			func() { h.write(systemFile, "RELUKKO_BASE_URL=http://etc\nRELUKKO_API_KEY=etc,old\n") },
			Setting{"http://etc", "RELUKKO_BASE_URL in " + systemFile},
			Setting{"etc", "RELUKKO_API_KEY in " + systemFile}},
		{"the user's file, URL alone",
			func() { h.write(h.userFile(), "RELUKKO_BASE_URL=http://user\n") },
			Setting{"http://user", "RELUKKO_BASE_URL in " + h.userFile()},
			Setting{"etc", "RELUKKO_API_KEY in " + systemFile}},
		{"the user's file, a key file",
			func() {
				h.write(h.userFile(), "RELUKKO_BASE_URL=http://user\nRELUKKO_API_KEY_FILE="+
					h.write("user.key", "user\n")+"\n")
			},
			Setting{"http://user", "RELUKKO_BASE_URL in " + h.userFile()},
			Setting{"user", h.dir + "/user.key (RELUKKO_API_KEY_FILE in " + h.userFile() + ")"}},
		{"the environment, a key file",
			func() { h.vars[APIKeyFile] = h.write("env.key", "env file") },
			Setting{"http://user", "RELUKKO_BASE_URL in " + h.userFile()},
			Setting{"env file", h.dir + "/env.key (RELUKKO_API_KEY_FILE)"}},
		{"the environment",
			func() { h.vars[APIKey], h.vars[BaseURL] = "env", "http://env" },
			Setting{"http://env", "RELUKKO_BASE_URL"}, Setting{"env", "RELUKKO_API_KEY"}},
		{"the flags",
			func() { look.URL, look.KeyFile = "http://flag", h.write("flag.key", "flag\nold") },
			Setting{"http://flag", "--url"}, Setting{"flag", h.dir + "/flag.key (--api-key-file)"}},
	} {
		place.set()
		url, err := look.BaseURL()
		require.NoError(t, err, place.name)
		require.Equal(t, place.url, url, place.name)
		key, err := look.Key(url.Value)
		require.NoError(t, err, place.name)
		require.Equal(t, place.key, key, place.name)
	}

	// A server does not use the files for clients.
	keys, file, err := look.ServerKeys()
	require.NoError(t, err)
	require.Equal(t, []string{"flag", "old"}, keys)
	require.Equal(t, look.KeyFile, file)
	look.KeyFile = ""
	keys, file, err = look.ServerKeys()
	require.NoError(t, err)
	require.Equal(t, []string{"env"}, keys)
	require.Empty(t, file)
	h.vars[APIKey] = ""
	keys, file, err = look.ServerKeys()
	require.NoError(t, err)
	require.Equal(t, []string{"env file"}, keys)
	require.Equal(t, h.vars[APIKeyFile], file)
	h.vars[APIKeyFile] = ""
	keys, _, err = look.ServerKeys()
	require.NoError(t, err)
	require.Empty(t, keys)
}

// The local server's key goes to the local server only.
func TestLocalKeyIsForTheDefaultURL(t *testing.T) {
	h := newHome(t)
	look := Lookup{Getenv: h.getenv}
	require.NoError(t, PublishKey(h.getenv, DefaultURL(), NewKey()))
	for _, base := range []string{"http://localhost:3000", "http://127.0.0.1:3000/",
		"http://[::1]:3000", "http://127.0.0.2:3000"} {
		_, err := look.Key(base)
		require.NoError(t, err, base)
	}
	for _, base := range []string{"http://localhost:3001", "http://localhost",
		"https://localhost:3000", "http://ada@localhost:3000", "http://localhost:3000/relukko",
		"http://example.com:3000", "http://localhost.example.com:3000", "http://10.0.0.1:3000",
		"http://0.0.0.0:3000", "%", "", "unix:///run/relukko.sock"} {
		_, err := look.Key(base)
		_, none := errors.AsType[*NoKeyError](err)
		require.True(t, none, "%s: %v", base, err)
	}
}

// That of a server on a socket goes to this socket only.
func TestLocalKeyOfASocket(t *testing.T) {
	h := newHome(t)
	look := Lookup{Getenv: h.getenv}
	require.NoError(t, PublishKey(h.getenv, "unix:///run/a-b.sock", NewKey()))
	for _, base := range []string{"unix:///run/a-b.sock", "unix:/run/a-b.sock",
		"unix:///run//./a-b.sock"} {
		key, err := look.Key(base)
		require.NoError(t, err, base)
		require.Equal(t, filepath.Join(h.dir, ".local/state/relukko/local%2Frun%2Fa-b.sock.key"),
			key.Origin)
	}
	for _, base := range []string{"unix:///run/a/b.sock", "unix:///run/a-b.sock/",
		"unix:run/a-b.sock", "unix://run/a-b.sock", "unix:", "http:///run/a-b.sock",
		DefaultURL()} {
		_, err := look.Key(base)
		_, none := errors.AsType[*NoKeyError](err)
		require.True(t, none, "%s: %v", base, err)
	}
}

func TestErrorsOfLookup(t *testing.T) {
	for name, row := range map[string]struct {
		set  func(h *home, look *Lookup)
		says string
	}{
		"no key": {func(*home, *Lookup) {}, "no API key: set RELUKKO_API_KEY"},
		"no home": {func(h *home, _ *Lookup) { h.vars["HOME"] = "" },
			"no API key: set RELUKKO_API_KEY"},
		"home is a file": {func(h *home, _ *Lookup) { h.vars["HOME"] = h.write("x", "") },
			"no API key: set RELUKKO_API_KEY"},
		"no key in the variable": {func(h *home, _ *Lookup) { h.vars[APIKey] = " ," },
			"no API key: RELUKKO_API_KEY is set, but there is no key in it"},
		"no key file": {func(h *home, _ *Lookup) { h.vars[APIKeyFile] = "/nowhere" },
			"RELUKKO_API_KEY_FILE: open /nowhere: "},
		"nothing in the key file": {
			func(h *home, _ *Lookup) { h.vars[APIKeyFile] = h.write("x", "\n") },
			"RELUKKO_API_KEY_FILE: there is no key in "},
		"no file of the flag": {func(_ *home, look *Lookup) { look.KeyFile = "/nowhere" },
			"--api-key-file: open /nowhere: "},
		"a relative path in a file": {
			func(h *home, _ *Lookup) { h.write(h.userFile(), "RELUKKO_API_KEY_FILE=key") },
			"client.env: give the whole path"},
		"no settings": {func(h *home, _ *Lookup) { h.write(h.userFile(), "\nA='") },
			"client.env: line 2: the quote is not closed"},
		"a directory": {
			func(h *home, _ *Lookup) { require.NoError(h.t, os.MkdirAll(h.userFile(), 0o700)) },
			"client.env: "},
		"a damaged key": {
			func(h *home, _ *Lookup) {
				h.write(PublishedKey(h.getenv, DefaultURL()), NewKey()[1:]+"\n")
			},
			"no API key: "},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			look := Lookup{Getenv: h.getenv}
			row.set(h, &look)
			_, err := look.Key(DefaultURL())
			require.ErrorContains(t, err, row.says)
		})
	}
}
