// Package settings finds out which backend a client uses, and with which API key. Package api and
// the command line look in the same places:
//
//  1. the flags of the command line
//  2. the environment: RELUKKO_BASE_URL, RELUKKO_API_KEY, RELUKKO_API_KEY_FILE
//  3. the user's file, $XDG_CONFIG_HOME/relukko/client.env
//  4. the machine's file, /etc/relukko/client.env
//  5. the key that a server of the same user has made for itself, for the default URL and for Unix
//     sockets
package settings

import (
	"errors"
	"fmt"
	"path/filepath"
)

// The names of the settings, in the environment and in the files.
const (
	BaseURL    = "RELUKKO_BASE_URL"
	APIKey     = "RELUKKO_API_KEY"
	APIKeyFile = "RELUKKO_API_KEY_FILE"
)

// Setting is a value and where it comes from. Without a value the origin is empty too.
type Setting struct{ Value, Origin string }

// Lookup looks settings up. Its fields must not change any more once it is used.
type Lookup struct {
	Getenv  func(name string) string
	URL     string // of the flag, or ""
	KeyFile string // of the flag, or ""
}

// NoKeyError is the error where no API key is configured.
type NoKeyError struct{ Reason string }

func (e *NoKeyError) Error() string { return "no API key: " + e.Reason }

// BaseURL returns the URL of the backend, which is not checked.
func (l *Lookup) BaseURL() (Setting, error) {
	if l.URL != "" {
		return Setting{l.URL, "--url"}, nil
	}
	var found Setting
	err := l.each(func(s *source) (bool, error) {
		found = s.setting(BaseURL)
		return found.Value != "", nil
	})
	if err == nil && found.Value == "" {
		found = Setting{DefaultURL(), "the default"}
	}
	return found, err
}

// Key returns the API key for the backend at base. Of several keys, which a server accepts so that
// one can be replaced while clients use it, it is the first. The error is a [*NoKeyError] if there
// is none.
func (l *Lookup) Key(base string) (Setting, error) {
	if l.KeyFile != "" {
		keys, err := ReadKeys(l.KeyFile)
		if err != nil {
			return Setting{}, fmt.Errorf("--api-key-file: %w", err)
		}
		return Setting{keys[0], l.KeyFile + " (--api-key-file)"}, nil
	}
	var found Setting
	err := l.each(func(s *source) (bool, error) {
		keys, origin, err := s.keys()
		if len(keys) > 0 {
			found = Setting{keys[0], origin}
		}
		return len(keys) > 0, err
	})
	if err != nil || found.Value != "" {
		return found, err
	}
	return l.localKey(base)
}

// ServerKeys returns the API keys for a server, which do not come from the files for clients, and
// the file that they were read from, if any. There may be none.
func (l *Lookup) ServerKeys() (keys []string, file string, err error) {
	if l.KeyFile != "" {
		if keys, err = ReadKeys(l.KeyFile); err != nil {
			err = fmt.Errorf("--api-key-file: %w", err)
		}
		return keys, l.KeyFile, err
	}
	env := l.environment()
	if keys, _, err = env.keys(); len(env.get(APIKey)) == 0 {
		file = env.get(APIKeyFile)
	}
	return keys, file, err
}

// each calls f for the environment and then for each file until it returns true or an error.
func (l *Lookup) each(f func(*source) (done bool, err error)) error {
	if done, err := f(l.environment()); done || err != nil {
		return err
	}
	for _, path := range []string{UserFile(l.Getenv), systemFile} {
		s, err := readSource(path)
		if err != nil {
			return err
		}
		if done, err := f(s); done || err != nil {
			return err
		}
	}
	return nil
}

// localKey returns the key that a server of this user has published for base: no other server gets
// to see it.
func (l *Lookup) localKey(base string) (Setting, error) {
	none := &NoKeyError{
		"set " + APIKey + " or " + APIKeyFile + ", or store one with `relukko login`"}
	path := PublishedKey(l.Getenv, base)
	if path == "" {
		return Setting{}, none
	}
	key, err := readMadeKey(path)
	switch {
	case err != nil:
		none.Reason = err.Error()
	case key == "":
		command := "relukko serve"
		if !isDefaultURL(base) {
			command += " --addr " + base
		}
		none.Reason += ", or start `" + command + "` on this machine"
	default:
		return Setting{key, path}, nil
	}
	return Setting{}, none
}

// source is one place with settings.
type source struct {
	file string // "" for the environment
	get  func(name string) string
}

func (l *Lookup) environment() *source { return &source{get: l.Getenv} }

// readSource reads a file with settings. One that does not exist, or that this user cannot even
// see, has none.
func readSource(path string) (*source, error) {
	values := make(map[string]string)
	content, err := readIfThere(path)
	if err != nil {
		return nil, err
	}
	assignments, err := parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, a := range assignments {
		values[a.name] = a.value
	}
	return &source{path, func(name string) string { return values[name] }}, nil
}

func (s *source) setting(name string) Setting {
	value := s.get(name)
	if value == "" {
		return Setting{}
	}
	return Setting{value, s.origin(name)}
}

func (s *source) origin(name string) string {
	if s.file == "" {
		return name
	}
	return name + " in " + s.file
}

// keys returns the API keys of the source, and where exactly they are.
func (s *source) keys() (keys []string, origin string, err error) {
	if value := s.get(APIKey); value != "" {
		keys, origin = SplitKeys(value), s.origin(APIKey)
		if len(keys) == 0 {
			err = &NoKeyError{origin + " is set, but there is no key in it"}
		}
		return keys, origin, err
	}
	path := s.get(APIKeyFile)
	if path == "" {
		return nil, "", nil
	}
	if s.file != "" && !filepath.IsAbs(path) {
		err = errors.New("give the whole path, beginning with /")
	} else {
		keys, err = ReadKeys(path)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", s.origin(APIKeyFile), err)
	}
	return keys, path + " (" + s.origin(APIKeyFile) + ")", nil
}
