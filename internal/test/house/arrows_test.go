package house

import (
	"slices"
	"strings"
	"testing"
)

// mayImport says which packages of the module each one may import. An arrow that is missing here
// is a decision about the design: change docs/design.md with it.
var mayImport = map[string][]string{
	".": {
		"api", "internal/acquire", "internal/acquire/either", "internal/clock",
		"internal/lifecycle", "internal/wire",
	},
	"api": {
		"internal/lifecycle", "internal/rawio", "internal/settings", "internal/sockets",
		"internal/unixsock", "internal/wire",
	},

	"internal/acquire":         {"api", "internal/clock", "internal/lifecycle", "internal/wire"},
	"internal/acquire/classic": driver,
	"internal/acquire/stream":  append([]string{"internal/sockets"}, driver...),
	"internal/acquire/either": append([]string{
		"internal/acquire/classic", "internal/acquire/stream", "internal/sockets",
	}, driver...),
	"internal/sockets":   {"internal/wire"},
	"internal/clock":     {},
	"internal/lifecycle": {},
	"internal/rawio":     {},
	"internal/settings":  {"internal/unixsock"},
	"internal/unixsock":  {"internal/rawio"},
	"internal/wire":      {},

	"server": {
		"internal/engine", "internal/httpapi", "internal/streamapi", "internal/web",
		"internal/wire", "server/access", "server/memstore", "server/observe", "server/store",
	},
	"server/access":    {},
	"server/metrics":   {"server/access", "server/observe", "server/store"},
	"server/observe":   {"server/store"},
	"server/store":     {},
	"server/memstore":  aStore,
	"server/boltstore": aStore,
	"server/pgstore":   append([]string{"internal/rawio"}, aStore...),
	"server/storetest": {"server/store"},

	"internal/connlimit": {"internal/rawio"},
	"internal/engine": {
		"internal/lifecycle", "internal/lockset", "server/observe", "server/store",
	},
	"internal/guard": {"internal/wire", "server/access", "server/observe", "server/store"},
	"internal/httpapi": append([]string{
		"internal/backup", "internal/connlimit", "internal/reply", "internal/streamapi",
		"internal/web", "server/observe",
	}, serverAPI...),
	"internal/backup":  {"internal/codec", "server/store"},
	"internal/codec":   {},
	"internal/lockset": {"server/store"},
	"internal/reply": {
		"internal/engine", "internal/guard", "internal/wire", "server/access", "server/store",
	},
	"internal/streamapi": append([]string{"internal/rawio", "internal/reply"}, serverAPI...),
	"internal/web": {
		"internal/engine", "internal/guard", "internal/reply", "internal/wire", "server/access",
		"server/store",
	},

	"relukkotest": {
		".", "api", "internal/engine", "internal/httpapi", "internal/lifecycle",
		"internal/test/faultnet", "server", "server/memstore", "server/store",
	},

	"cmd/relukko": {"internal/cli"},
	"internal/cli": {
		".", "api", "internal/backup", "internal/connlimit", "internal/settings",
		"internal/sockets", "internal/supervise", "internal/systemd", "internal/unixsock",
		"internal/wire", "server", "server/access", "server/boltstore", "server/memstore",
		"server/metrics", "server/pgstore", "server/store",
	},
	"internal/supervise":  {},
	"internal/systemd":    {},
	"examples/first":      {".", "api"},
	"examples/instrument": {".", "api", "server", "server/memstore"},
	"examples/pool":       {".", "api", "server", "server/memstore"},

	"internal/test/browser":     {},
	"internal/test/bubble":      {},
	"internal/test/faultnet":    {},
	"internal/test/house":       {},
	"internal/test/interop":     {},
	"internal/test/modelcheck":  {},
	"internal/test/originalapi": {"internal/httpapi", "internal/wire"},
	"internal/test/overlap":     {},
	"internal/test/pgtest":      {},
	"internal/test/proxies":     {},
	"internal/test/readme":      {},
	"internal/test/soak":        {},
	"internal/test/stream":      {},
	"internal/test/year":        {},
}

var (
	driver = []string{
		"api", "internal/acquire", "internal/clock", "internal/lifecycle", "internal/wire",
	}
	aStore    = []string{"internal/codec", "internal/lockset", "internal/wire", "server/store"}
	serverAPI = []string{
		"internal/engine", "internal/guard", "internal/lifecycle", "internal/wire",
		"server/access", "server/store",
	}
)

// mayNotImport names packages from elsewhere that a package may not import.
var mayNotImport = map[string][]string{
	"internal/engine": {"net/http", "encoding/json"},
}

// libraries are what a Go program compiles that imports one of these packages of ours.
var libraries = []string{".", "api", "server", "relukkotest"}

// onlyForPrograms and onlyForTests may not be among what libraries compile.
var (
	onlyForPrograms = []string{
		"github.com/jackc/pgx/v5", "github.com/prometheus", "github.com/spf13/cobra",
		"github.com/spf13/pflag", "go.etcd.io/bbolt",
	}
	onlyForTests = []string{
		"github.com/anishathalye/porcupine", "github.com/chromedp/cdproto",
		"github.com/chromedp/chromedp", "github.com/creack/pty", "github.com/stretchr/testify",
		"go.uber.org/goleak",
	}
)

// clientNeeds is all that the root package and api may depend on besides the standard library.
var clientNeeds = []string{
	module, "github.com/cenkalti/backoff/v4", "github.com/coder/websocket", "golang.org/x/sync",
}

func TestArrows(t *testing.T) {
	r := report{t, arrows}
	for _, p := range allPackages(t) {
		from, ours := p.dir()
		if !ours {
			continue
		}
		allowed, known := mayImport[from]
		if !known {
			r.addf(
				from,
				"%s: mayImport in the house test does not say what this package may import",
				from,
			)
		}
		for _, imported := range p.Imports {
			to, ours := dirOf(imported)
			if known && ours && !slices.Contains(allowed, to) {
				r.addf(
					from,
					"%s imports %s, which is against the arrows of docs/design.md",
					from,
					to,
				)
			}
			if slices.Contains(mayNotImport[from], imported) {
				r.addf(from, "%s imports %s", from, imported)
			}
		}
	}
	for from, allowed := range mayImport {
		for _, to := range allowed {
			if _, known := mayImport[to]; !known {
				t.Errorf("mayImport has an arrow from %s to %s, which it does not list", from, to)
			}
		}
	}
}

func TestDependencies(t *testing.T) {
	r := report{t, arrows}
	all := allPackages(t)
	for _, dir := range libraries {
		p := all[strings.TrimSuffix(module+"/"+dir, "/.")]
		if p == nil {
			t.Errorf("there is no package %s", dir)
			continue
		}
		for _, dep := range p.Deps {
			if within(dep, onlyForPrograms) || within(dep, onlyForTests) {
				r.addf(dir, "%s depends on %s", dir, dep)
			}
			client := dir == "." || dir == "api"
			if client && !within(dep, clientNeeds) && !all[dep].Standard {
				r.addf(dir, "%s depends on %s, which is not in clientNeeds", dir, dep)
			}
		}
	}
}

func TestBubbles(t *testing.T) {
	r := report{t, bubbles}
	for _, s := range allSources(t) {
		if s.tree != nil && strings.Contains(s.text, "synctest."+"Test(") {
			r.addf(s.where(), "%s has synctest.Test; bubble.Test of internal/test/bubble does not "+
				"crash with the race detector", s.path)
		}
	}
}

// within reports whether the package is one of those, or below one.
func within(importPath string, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		return importPath == p || strings.HasPrefix(importPath, p+"/")
	})
}
