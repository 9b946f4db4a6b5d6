// Command man writes the man pages of relukko and its commands into a folder. It is in a module of
// its own, so that the program itself does not depend on what formats them.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"gitlab.com/relukko/relukko-go/internal/cli"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: man DIR VERSION")
		os.Exit(64)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write writes the pages, which have the date of SOURCE_DATE_EPOCH.
func write(dir, version string) error {
	date := time.Now()
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		date = time.Unix(seconds, 0).UTC()
	}
	root := cli.Command()
	for _, cmd := range append(root.Commands(), root) {
		if cmd != root && !cmd.IsAvailableCommand() {
			continue
		}
		asMarkdown(cmd)
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		f, err := os.Create(filepath.Join(dir, name+".1"))
		if err != nil {
			return err
		}
		header := doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Date: &date,
			Source: version, Manual: "Relukko"}
		if err := doc.GenMan(cmd, &header, f); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// special are the characters of plain text that mean something in Markdown.
var special = strings.NewReplacer("*", `\*`, "_", `\_`, "`", "\\`", "<", `\<`, "[", `\[`)

var list = regexp.MustCompile(`(?m)^([^ \n].*)\n  - `)

// asMarkdown makes Markdown of the plain texts of a command, which is what package doc expects.
func asMarkdown(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	cmd.Long = list.ReplaceAllString(special.Replace(cmd.Long), "$1\n\n  - ")
	cmd.Flags().VisitAll(func(flag *pflag.Flag) { _, flag.Usage = pflag.UnquoteUsage(flag) })
}
