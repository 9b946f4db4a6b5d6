package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"
)

const (
	maxLines      = 60
	maxComplexity = 15
)

// parsers lists the functions that may be longer and more complex: they go through the cases of a
// grammar, which is easier to read in one place.
var parsers = []string{
	"api.parseBase",
	"api.FuzzRoundTrip",
	"internal/settings.(*parser).value",
	"internal/wire.FuzzBroadcast",
	"internal/wire.plainRequest",
	"internal/wire.plainAcquire",
	"internal/wire.plainMessage",
}

func TestFunctionSize(t *testing.T) {
	r := report{t, size}
	for name, f := range functions(t) {
		if f.in.isTest() || slices.Contains(parsers, name) {
			continue
		}
		lines := files.Position(f.node.End()).Line - files.Position(f.node.Pos()).Line + 1
		if lines > maxLines {
			r.addf(f.in.where(), "%s: %s has %d lines, more than %d",
				f.in.at(f.node.Pos()), name, lines, maxLines)
		}
	}
}

func TestComplexity(t *testing.T) {
	r := report{t, complexity}
	for name, f := range functions(t) {
		if slices.Contains(parsers, name) {
			continue
		}
		if c := cyclomatic(f.node); c > maxComplexity {
			r.addf(f.in.where(), "%s: %s has a cyclomatic complexity of %d, more than %d",
				f.in.at(f.node.Pos()), name, c, maxComplexity)
		}
	}
}

func TestParsersExist(t *testing.T) {
	all := functions(t)
	for _, name := range parsers {
		if _, ok := all[name]; !ok {
			t.Errorf("parsers lists %s, which does not exist", name)
		}
	}
}

// A function is a declared function or method, or a function that a variable is set to.
type function struct {
	in   *source
	node ast.Node
}

// functions returns all functions by their names, such as "internal/wire.(*scanner).object".
func functions(t *testing.T) map[string]function {
	all := map[string]function{}
	for _, s := range allSources(t) {
		if s.tree == nil {
			continue
		}
		for _, d := range s.tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				name := d.Name.Name
				if d.Recv != nil {
					name = receiver(d.Recv.List[0].Type) + "." + name
				}
				name = s.where() + "." + name
				if _, ok := all[name]; ok { // for another system, or of an external test
					name += " in " + s.path
				}
				all[name] = function{s, d}
			case *ast.GenDecl:
				ast.Inspect(d, func(n ast.Node) bool {
					f, ok := n.(*ast.FuncLit)
					if ok {
						all["function literal at "+s.at(f.Pos())] = function{s, f}
					}
					return !ok
				})
			}
		}
	}
	return all
}

// receiver returns a receiver's type as in "(*T)" or "T", without type parameters.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return "(*" + receiver(e.X) + ")"
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// cyclomatic counts as gocyclo does: one, and one more for each if, for, case, && and ||.
func cyclomatic(f ast.Node) int {
	n := 1
	ast.Inspect(f, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil {
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

func TestCyclomatic(t *testing.T) {
	for body, want := range map[string]int{
		"":                                 1,
		"if a {} else if b && c {}":        4,
		"for range x { for ; a || b; {} }": 4,
		"switch a { case 1, 2: case 3: default: }": 3,
		"select { case <-a: default: }":            2,
		"func() { if a {} }()":                     2,
	} {
		tree, err := parser.ParseFile(files, "", "package p; func f() { "+body+" }", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := cyclomatic(tree.Decls[0]); got != want {
			t.Errorf("%q: %d, want %d", body, got, want)
		}
	}
}
