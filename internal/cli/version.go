package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(p *program) *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print the version",
		Long:              "Print the version, the commit that it was built from, and that of Go.",
		Example:           examples("relukko version"),
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printed(fmt.Fprintln(p.Stdout, version()))
		},
	}
}

// version returns what the build recorded.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "relukko (unknown version)"
	}
	of := make(map[string]string)
	for _, s := range info.Settings {
		of[s.Key] = s.Value
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	s := "relukko " + v
	if revision := of["vcs.revision"]; revision != "" {
		s += ", commit " + revision[:min(12, len(revision))]
		if of["vcs.modified"] == "true" {
			s += " with changes"
		}
	}
	return s + ", " + info.GoVersion + " " + of["GOOS"] + "/" + of["GOARCH"]
}
