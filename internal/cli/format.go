package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON as the API defines it")
}

// printTable prints locks in columns.
func printTable(w io.Writer, locks []api.Lock, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tHOLDER\tIP\tAGE\tEXPIRES\tWAITERS\tID")
	for _, lock := range locks {
		waiters := "-"
		if lock.Waiters > 0 {
			waiters = fmt.Sprint(lock.Waiters)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			printable(lock.Name), orDash(creatorOf(lock)), orDash(lock.IP),
			age(lock.CreatedAt, now), expires(lock, now), waiters, lock.ID)
	}
	return printed(0, t.Flush())
}

// printLock prints what is known of one lock, as JSON if asJSON.
func printLock(w io.Writer, lock api.Lock, asJSON bool, now time.Time) error {
	if asJSON {
		return printJSON(w, lock)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what, value string) { fmt.Fprintf(t, "%s\t%s\n", what, value) }
	row("name", printable(lock.Name))
	row("id", lock.ID)
	row("creator", orDash(lock.Creator))
	row("ip", orDash(lock.IP))
	row("created", stamp(lock.CreatedAt)+", "+age(lock.CreatedAt, now)+" ago")
	row("updated", stamp(lock.UpdatedAt)+", "+age(lock.UpdatedAt, now)+" ago")
	row("expires", stamp(lock.ExpiresAt)+", "+expires(lock, now))
	if lock.FencingToken != 0 {
		row("fencing token", fmt.Sprint(lock.FencingToken))
	}
	if lock.Waiters != 0 {
		row("waiters", fmt.Sprint(lock.Waiters))
	}
	return printed(0, t.Flush())
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}

func age(t, now time.Time) string { return short(now.Sub(t).Truncate(time.Second)) }

func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// printJSON prints a value as indented JSON.
func printJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return failed("%v", err)
	}
	return printed(fmt.Fprintf(w, "%s\n", b))
}

// printed returns the failure for output that could not be written. It takes the
// results of the fmt functions.
func printed(_ int, err error) error {
	if err != nil {
		return failed("the output could not be written: %v", err)
	}
	return nil
}
