// Package year has no code: its test runs the real relukko serve with what a bench of people has
// after a year, and prints the figures of docs/performance.md.
//
//	go test ./internal/test/year -v -year -timeout=30m
//
// Without -year the numbers are small, and only what must hold is checked.
package year
