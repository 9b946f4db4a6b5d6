package httpapi

import (
	"runtime/debug"
	"sync"
)

// version returns the version of this module in the program that it is a part of.
var version = sync.OnceValue(func() string {
	const module, unknown = "gitlab.com/relukko/relukko-go", "(devel)"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module && m.Version != "" {
			return m.Version
		}
	}
	return unknown
})
