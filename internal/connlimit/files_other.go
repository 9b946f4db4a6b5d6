//go:build !unix

package connlimit

// Files returns how many files the process may have open, and how many it has.
func Files() (limit, used int) { return unlimited, 0 }
