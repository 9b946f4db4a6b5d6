package house

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/types"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mustBeOrdered lists the packages for which docs/design.md must state the order of the files.
var mustBeOrdered = []string{
	".", "api", "relukkotest", "server",
	"internal/acquire", "internal/acquire/classic", "internal/acquire/either",
	"internal/acquire/stream", "internal/clock", "internal/lifecycle", "internal/sockets",
	"internal/wire",
	"internal/backup", "internal/codec",
	"internal/cli", "internal/connlimit",
	"internal/engine", "internal/guard", "internal/httpapi", "internal/lockset",
	"internal/rawio", "internal/reply",
	"internal/settings", "internal/streamapi", "internal/supervise", "internal/systemd",
	"internal/unixsock", "internal/web",
	"server/access",
	"server/boltstore", "server/memstore", "server/metrics", "server/observe", "server/pgstore",
	"server/store", "server/storetest",
	"internal/test/faultnet", "internal/test/pgtest", "examples/instrument", "examples/pool",
}

// orders reads the order of the files of each package, top to bottom, from the list items of a
// document that look like this; they may go on in further lines.
//
//   - `server`: doc → server → options
func orders(document string) map[string][]string {
	found := map[string][]string{}
	for _, item := range orderItem.FindAllStringSubmatch(document, -1) {
		dir := item[1]
		if dir == "relukko" {
			dir = "."
		}
		var order []string
		for name := range strings.SplitSeq(item[2], "→") {
			order = append(order, strings.TrimSpace(name)+".go")
		}
		found[dir] = order
	}
	return found
}

var orderItem = regexp.MustCompile("(?m)^- `([a-z0-9/]+)`: (\\w+(?:\\s+→\\s+\\w+)*)$")

func TestFileOrder(t *testing.T) {
	r := report{t, fileOrder}
	design, err := os.ReadFile(filepath.Join(root, "docs", "design.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := orders(string(design))
	for _, dir := range mustBeOrdered {
		if listed[dir] == nil {
			r.addf(dir, "docs/design.md does not state the order of the files of %s", dir)
		}
	}
	all := allPackages(t)
	for dir, order := range listed {
		p := all[strings.TrimSuffix(module+"/"+dir, "/.")]
		if p == nil {
			r.addf(
				dir,
				"docs/design.md states the order of the files of %s, which is no package",
				dir,
			)
			continue
		}
		checkListed(t, r, dir, order)
		found, err := upwards(p, order, all)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		for _, f := range found {
			r.addf(dir, "%s", f)
		}
	}
}

// checkListed compares the order with the files in the directory, those for other systems included.
func checkListed(t *testing.T, r report, dir string, order []string) {
	var there []string
	for _, s := range allSources(t) {
		if s.where() == dir && s.tree != nil && !s.isTest() {
			there = append(there, path.Base(s.path))
		}
	}
	for _, name := range there {
		if !slices.Contains(order, name) {
			r.addf(
				dir,
				"%s/%s: the order of the files in docs/design.md does not list it",
				dir,
				name,
			)
		}
	}
	for i, name := range order {
		if !slices.Contains(there, name) {
			r.addf(dir, "docs/design.md lists %s/%s, which does not exist", dir, name)
		}
		if slices.Contains(order[:i], name) {
			r.addf(dir, "docs/design.md lists %s/%s twice", dir, name)
		}
	}
}

// upwards returns the references of a package's files to what a file above them declares.
func upwards(p *goPackage, order []string, all map[string]*goPackage) ([]string, error) {
	dir, _ := p.dir()
	var trees []*ast.File
	for _, name := range p.GoFiles {
		tree, err := parser.ParseFile(
			files,
			filepath.Join(root, dir, name),
			nil,
			parser.SkipObjectResolution,
		)
		if err != nil {
			return nil, err
		}
		trees = append(trees, tree)
	}
	lookup := func(importPath string) (io.ReadCloser, error) {
		if q := all[importPath]; q != nil && q.Export != "" {
			return os.Open(q.Export)
		}
		return nil, fmt.Errorf("no export data of %s", importPath)
	}
	return upwardReferences(p.ImportPath, trees, order, importer.ForCompiler(files, "gc", lookup))
}

// upwardReferences is upwards for files that are parsed. A method, and a field, counts with the
// file that declares it.
func upwardReferences(importPath string, trees []*ast.File, order []string, imp types.Importer,
) ([]string, error) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: imp}
	pkg, err := conf.Check(importPath, files, trees, info)
	if err != nil {
		return nil, err
	}
	var found []string
	for id, obj := range info.Uses {
		if obj.Pkg() != pkg || !obj.Pos().IsValid() {
			continue
		}
		use, decl := files.Position(id.Pos()), files.Position(obj.Pos())
		user, declarer := filepath.Base(use.Filename), filepath.Base(decl.Filename)
		if i, j := slices.Index(order, user), slices.Index(order, declarer); i >= 0 && j >= 0 &&
			j < i {
			found = append(found, fmt.Sprintf("%s:%d: refers to %s, which %s above it declares",
				filepath.ToSlash(use.Filename), use.Line, id.Name, declarer))
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

func TestUpwardReferences(t *testing.T) {
	parse := func(name, text string) *ast.File {
		tree, err := parser.ParseFile(files, name, "package p\n"+text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	for name, c := range map[string]struct {
		top, bottom string
		want        []string
	}{
		"down": {"func f() { g() }", "func g() {}", nil},
		"up": {"func f() {}", "func g() { f() }",
			[]string{"bottom.go:2: refers to f, which top.go above it declares"}},
		"local": {"func f() {}", "func g() { f := 1; _ = f }", nil},
		"method": {"func (T) m() {}", "type T struct{}\nfunc g() { T{}.m() }",
			[]string{"bottom.go:3: refers to m, which top.go above it declares"}},
		"field": {"type T struct{ a int }", "func g(t interface{ n() }) { t.n() }", nil},
		"generic": {
			"type L[E any] struct{}\nfunc (L[E]) add(E) {}", "func g() { var l L[int]; l.add(1) }",
			[]string{
				"bottom.go:2: refers to L, which top.go above it declares",
				"bottom.go:2: refers to add, which top.go above it declares",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			trees := []*ast.File{parse("top.go", c.top), parse("bottom.go", c.bottom)}
			found, err := upwardReferences(
				"p",
				trees,
				[]string{"top.go", "bottom.go"},
				importer.Default(),
			)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(found, c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

func TestOrders(t *testing.T) {
	got := orders(
		"text\n\n- `relukko`: mutex → session →\n  lease\n- `server`: server\n- `x` is not one\n",
	)
	if fmt.Sprint(got) != "map[.:[mutex.go session.go lease.go] server:[server.go]]" {
		t.Error(got)
	}
}
