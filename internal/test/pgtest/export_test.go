package pgtest

import "testing"

// HideInstalled has the test find no PostgreSQL.
func HideInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	was := debian
	debian = t.TempDir() + "/*/bin"
	t.Cleanup(func() { debian = was })
}
