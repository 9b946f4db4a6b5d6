//go:build unix

package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
)

var postgres pgtest.Cluster

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgres.Main(m)) }

var database = regexp.MustCompile(`DATABASE_URL=postgres://\S+`)

// Everything that docs/operations.md says to type works, in its order, with the files of /etc in
// another folder, other ports and a database of the test. Blocks of another language than sh need a
// machine with systemd or containers; packaging has tests of what they begin with.
func TestOperations(t *testing.T) {
	r := newReader(t)
	r.types("go install ./cmd/relukko")
	r.dir = filepath.Join(r.home, "work")
	etc := filepath.Join(r.home, "etc")
	for _, dir := range []string{r.dir, etc} {
		require.NoError(t, os.Mkdir(dir, 0o700))
	}
	here := []string{"/etc/relukko", etc}
	for _, port := range []string{":3443", ":3001", ":3002", ":3003", ":9300"} {
		here = append(here, port, ":"+freePort(t))
	}
	replaced := strings.NewReplacer(here...)

	onDatabase := "DATABASE_URL='" + postgres.Shared(t) + "'"
	done := map[string]bool{}
	for _, b := range blocks(t, "docs/operations.md") {
		if b.language != "sh" {
			require.Contains(t, []string{"text", "ini", "nginx", "caddy"}, b.language)
			continue
		}
		script := replaced.Replace(b.text)
		if database.MatchString(script) {
			script = database.ReplaceAllLiteralString(script, onDatabase)
		}
		switch {
		case strings.Contains(script, "relukko serve "):
			r.serves(script)
			done["server"] = true
		case strings.Contains(script, "relukko status"):
			out := r.types(script)
			require.Regexp(t, `(?m)^  state +up$`, out)
			require.Regexp(t, `(?m)^alone$`, out)
			done["TLS"] = true
		case strings.Contains(script, "relukko acquire"):
			require.Regexp(t, `(?m)^robot-arm-1 `, r.types(script))
			done["two servers"] = true
		case strings.Contains(script, "sed -i"):
			r.types(script)
			keys, err := os.ReadFile(filepath.Join(etc, "keys"))
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(keys), "\nada "), "%s", keys)
			done["rotation"] = true
		default:
			r.types(script)
		}
	}
	require.Len(t, done, 4)
}
