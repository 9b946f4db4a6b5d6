package pgtest

import "testing"

// HideInstalled hides all installed PostgreSQL from the test.
func HideInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	was := debian
	debian = t.TempDir() + "/*/bin"
	t.Cleanup(func() { debian = was })
}
