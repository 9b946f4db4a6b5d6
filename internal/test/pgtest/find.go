package pgtest

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// debian is where Debian and its derivatives install PostgreSQL's programs, outside of PATH: one
// folder for each major version.
var debian = "/usr/lib/postgresql/*/bin"

// find returns the folder with PostgreSQL's programs: the one that pg_config names, the newest of
// Debian's, or the one in PATH.
func find() (string, error) {
	var candidates []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		candidates = append(candidates, strings.TrimSpace(string(out)))
	}
	installed, _ := filepath.Glob(debian)
	slices.SortFunc(installed, func(a, b string) int { return cmp.Compare(major(b), major(a)) })
	candidates = append(candidates, installed...)
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			candidates = append(candidates, filepath.Dir(path))
		}
	}
	for _, bin := range candidates {
		if executable(filepath.Join(bin, "initdb")) && executable(filepath.Join(bin, "postgres")) {
			return bin, nil
		}
	}
	return "", errors.New("PostgreSQL's programs initdb and postgres are not installed " +
		"(looked with pg_config, in " + debian + " and in PATH)")
}

func major(bin string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return version
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
