package cli

import (
	"crypto/rand"
	"os"
	"strings"
)

// keys returns the keys that the flag or the environment configures, if any. A
// server accepts them all, a client uses the first.
func (p *program) keys() ([]string, error) {
	if p.keyFile != "" {
		return readKeys(p.keyFile)
	}
	value := p.getenv(envKey)
	keys := splitKeys(value)
	if value != "" && len(keys) == 0 {
		return nil, usage("%s is set, but there is no key in it", envKey)
	}
	return keys, nil
}

// readKeys reads the keys in a file: separated by commas or line breaks, at
// least one.
func readKeys(file string) ([]string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, usage("--api-key-file: %v", err)
	}
	keys := splitKeys(string(content))
	if len(keys) == 0 {
		return nil, usage("--api-key-file: there is no key in %s", file)
	}
	return keys, nil
}

func splitKeys(s string) []string {
	var keys []string
	separator := func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }
	for key := range strings.FieldsFuncSeq(s, separator) {
		if key = strings.TrimSpace(key); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func randomKey() string { return strings.ToLower(rand.Text()) }
