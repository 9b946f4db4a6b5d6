package cli

import (
	"cmp"
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
			return printed(fmt.Fprintln(p.Stdout, cmd.Root().Version))
		},
	}
}

// version returns the version of the program, and what else the build recorded.
func version() (v, all string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", "relukko (unknown version)"
	}
	of := make(map[string]string)
	for _, s := range info.Settings {
		of[s.Key] = s.Value
	}
	v = cmp.Or(info.Main.Version, "(devel)")
	s := "relukko " + v
	if revision := of["vcs.revision"]; revision != "" {
		s += ", commit " + revision[:min(12, len(revision))]
		if of["vcs.modified"] == "true" {
			s += " with changes"
		}
	}
	return v, s + ", " + info.GoVersion + " " + of["GOOS"] + "/" + of["GOARCH"]
}
