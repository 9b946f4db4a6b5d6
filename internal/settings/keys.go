package settings

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// keyBytes is how many random bytes an API key has.
const keyBytes = 32

// NewKey makes an API key: 64 hexadecimal digits, which need no quotes anywhere.
func NewKey() string {
	b := make([]byte, keyBytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// ReadKeys reads the API keys in a file: separated by commas or line breaks, at least one.
func ReadKeys(file string) ([]string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys := SplitKeys(string(content))
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key in %s", file)
	}
	return keys, nil
}

// SplitKeys returns the keys in s, which are separated by commas or line breaks.
func SplitKeys(s string) []string {
	var keys []string
	separator := func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }
	for key := range strings.FieldsFuncSeq(s, separator) {
		if key = strings.TrimSpace(key); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}
