package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "gitlab.com/relukko/relukko-go"

// root is the module's directory, seen from the one in which these tests run.
var root = filepath.Join("..", "..", "..")

// A goPackage is what go list says of a package.
type goPackage struct {
	ImportPath string
	GoFiles    []string // those that are compiled on this system
	Imports    []string
	Deps       []string
	Export     string // file with the export data
	Standard   bool
}

// dir returns the directory of a package of the module, relative to the root and with slashes,
// and whether the package is one of the module's.
func (p *goPackage) dir() (string, bool) { return dirOf(p.ImportPath) }

func dirOf(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// packages returns the module's packages and all that they depend on, by import path.
var packages = sync.OnceValues(func() (map[string]*goPackage, error) {
	cmd := exec.Command("go", "list", "-deps", "-export",
		"-json=ImportPath,GoFiles,Imports,Deps,Export,Standard", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())
	}
	all := map[string]*goPackage{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all[p.ImportPath] = &p
	}
})

func allPackages(t *testing.T) map[string]*goPackage {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A source is a file of Go or Markdown.
type source struct {
	path string // relative to the root, with slashes
	text string
	tree *ast.File // nil for Markdown
}

// where returns what a finding in the file counts for: its package, or the document itself.
func (s *source) where() string {
	if s.tree == nil {
		return s.path
	}
	return path.Dir(s.path)
}

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// at returns the position for a message.
func (s *source) at(p token.Pos) string {
	return fmt.Sprintf("%s:%d", s.path, files.Position(p).Line)
}

var files = token.NewFileSet()

// sources returns all files of Go and Markdown in the repository, those of other systems and of
// the module bench included.
var sources = sync.OnceValues(func() ([]*source, error) {
	var all []*source
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if base := e.Name(); name != root &&
				(base == "testdata" || base[0] == '.' || base[0] == '_') {
				return filepath.SkipDir
			}
			return nil
		}
		ext := filepath.Ext(name)
		if ext != ".go" && ext != ".md" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		s := &source{path: filepath.ToSlash(rel), text: string(text)}
		if ext == ".go" {
			if s.tree, err = parser.ParseFile(
				files, s.path, text, parser.ParseComments); err != nil {
				return err
			}
		}
		all = append(all, s)
		return nil
	})
	return all, err
})

func allSources(t *testing.T) []*source {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
