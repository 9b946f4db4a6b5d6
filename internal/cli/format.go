package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON as the API defines it")
}

// printTable prints locks in columns.
func printTable(w io.Writer, locks []api.Lock, now time.Time) error {
	rows := [][]string{{"NAME", "HOLDER", "IP", "AGE", "EXPIRES", "WAITERS", "ID", "REASON"}}
	for _, lock := range locks {
		waiters := "-"
		if lock.Waiters > 0 {
			waiters = fmt.Sprint(lock.Waiters)
		}
		who, reason := wire.CutReason(creatorOf(lock))
		rows = append(rows, []string{
			printable(lock.Name), orDash(who), orDash(lock.IP),
			age(lock.CreatedAt, now), expires(lock, now), waiters, lock.ID, orDash(reason),
		})
	}
	return writeTable(w, rows)
}

// printLock prints what is known of one lock, as JSON if asJSON.
func printLock(w io.Writer, lock api.Lock, asJSON bool, now time.Time) error {
	if asJSON {
		return printJSON(w, lock)
	}
	rows := [][]string{
		{"name", printable(lock.Name)},
		{"id", lock.ID},
		{"creator", orDash(lock.Creator)},
		{"ip", orDash(lock.IP)},
		{"created", stamp(lock.CreatedAt) + ", " + age(lock.CreatedAt, now) + " ago"},
		{"updated", stamp(lock.UpdatedAt) + ", " + age(lock.UpdatedAt, now) + " ago"},
		{"expires", stamp(lock.ExpiresAt) + ", " + expires(lock, now)},
	}
	if isUntilReleased(lock) {
		rows[len(rows)-1][1] = untilReleased
	}
	if lock.FencingToken != 0 {
		rows = append(rows, []string{"fencing token", fmt.Sprint(lock.FencingToken)})
	}
	if lock.Waiters != 0 {
		rows = append(rows, []string{"waiters", fmt.Sprint(lock.Waiters)})
	}
	return writeTable(w, rows)
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
