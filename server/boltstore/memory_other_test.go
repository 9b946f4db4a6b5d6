//go:build !linux

package boltstore_test

import "testing"

func inMemory(t testing.TB) string { return t.TempDir() }
