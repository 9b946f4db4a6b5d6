// Package access says which API keys a server accepts, and what each of them may do.
//
// A key has a name, a role, and perhaps patterns for the names of locks. Several keys may have one
// name, so that one can replace another, and the steps of a job can share their locks: a lock
// belongs to the name of the key that created it.
package access

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

const (
	hashPrefix = "sha256:"
	maxLine    = 64 << 10 // bytes
	maxName    = 64       // bytes
)

// Parse reads a file of keys: one a line, at least one, no key twice.
//
//	# name    role    hash of the key     what the key may lock
//	bob       user    sha256:9f86d0…      bench-* lab-2
//
// A # after white space begins a comment. Without a pattern a key may lock any name. A
// viewer has none, since it reads everything. An error says which line is wrong, and contains no
// hash, and no key that stands where it should not.
func Parse(r io.Reader) ([]Key, error) {
	var keys []Key
	lineOf := make(map[[sha256.Size]byte]int)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 1
	for ; lines.Scan(); n++ {
		words := words(lines.Text())
		if len(words) == 0 {
			continue
		}
		key, err := parseKey(words)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if first := lineOf[key.Hash]; first != 0 {
			return nil, fmt.Errorf("line %d: the key of line %d again", n, first)
		}
		lineOf[key.Hash] = n
		keys = append(keys, key)
	}
	switch err := lines.Err(); {
	case err == bufio.ErrTooLong:
		return nil, fmt.Errorf("line %d: it is longer than 64 KiB", n)
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, fmt.Errorf("there is no key in it")
	}
	return keys, nil
}

// words returns the words of a line before its comment.
func words(line string) []string {
	words := strings.Fields(line)
	for i, word := range words {
		if word[0] == '#' {
			return words[:i]
		}
	}
	return words
}

// parseKey reads a line that is not empty.
func parseKey(words []string) (key Key, err error) {
	if len(words) < 3 {
		return key, fmt.Errorf("a key has a name, a role and a hash: " +
			"NAME ROLE sha256:HEX [PATTERN …]")
	}
	key.Name, key.Patterns = words[0], words[3:]
	if key.Role, err = ParseRole(words[1]); err != nil {
		return key, err
	}
	digits, ok := strings.CutPrefix(words[2], hashPrefix)
	hash, err := hex.DecodeString(digits)
	if !ok || err != nil || len(hash) != len(key.Hash) {
		return key, fmt.Errorf("the third word must be sha256: and 64 hexadecimal digits")
	}
	copy(key.Hash[:], hash)
	return key, key.Check()
}

// String returns the key as a line of the file that [Parse] reads.
func (k *Key) String() string {
	words := []string{k.Name, k.Role.String(), hashPrefix + hex.EncodeToString(k.Hash[:])}
	return strings.Join(append(words, k.Patterns...), " ")
}

// Check returns an error if the key cannot stand in a file.
func (k *Key) Check() error {
	if k.Name == "" || len(k.Name) > maxName || strings.Trim(k.Name, nameLetters) != "" {
		return fmt.Errorf("%s is no name of a key: it has 1 to 64 of the characters A-Z a-z 0-9 "+
			". _ - @ + /", quoted(k.Name))
	}
	if k.Role == Viewer && len(k.Patterns) > 0 {
		return fmt.Errorf("a viewer has no patterns: it reads all locks and changes none")
	}
	for _, pattern := range k.Patterns {
		if w := words(pattern); len(w) != 1 || w[0] != pattern {
			return fmt.Errorf("%q is no pattern: it has no white space and does not begin with #; "+
				"* stands for any characters", pattern)
		}
	}
	return nil
}

const nameLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@+/"
