package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"gitlab.com/relukko/relukko-go/api"
)

// mark is what a Lock appends to its creator; nobody wants to read it.
var mark = regexp.MustCompile(` #[a-z0-9]{12,}$`)

// holderOf is who holds a lock, as far as it says.
func holderOf(lock api.Lock) string {
	if who := mark.ReplaceAllString(lock.Creator, ""); who != "" {
		return printable(who)
	}
	return "somebody who gave no name"
}

// printable replaces what would do something to a terminal: names and creators
// are other people's.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// expires words when a lock expires. The times are the backend's: where its
// clock differs from ours, so does this.
func expires(lock api.Lock, now time.Time) string {
	left := lock.ExpiresAt.Sub(now).Truncate(time.Second)
	if lock.ExpiresAt.Before(now) {
		return "expired " + short(-left) + " ago"
	}
	return "in " + short(left)
}

// printTable shows locks in columns.
func printTable(w io.Writer, locks []api.Lock, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tHOLDER\tIP\tAGE\tEXPIRES\tWAITERS\tID")
	for _, lock := range locks {
		waiters := "-"
		if lock.Waiters > 0 {
			waiters = fmt.Sprint(lock.Waiters)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(lock.Name), orDash(mark.ReplaceAllString(lock.Creator, "")), orDash(lock.IP),
			short(now.Sub(lock.CreatedAt).Truncate(time.Second)), expires(lock, now), waiters, lock.ID)
	}
	return printed(0, t.Flush())
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}

// printLock shows all that is known of one lock.
func printLock(w io.Writer, lock api.Lock, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what, value string) { fmt.Fprintf(t, "%s\t%s\n", what, value) }
	row("name", printable(lock.Name))
	row("id", lock.ID)
	row("creator", orDash(lock.Creator))
	row("ip", orDash(lock.IP))
	row("created", stamp(lock.CreatedAt)+", "+short(now.Sub(lock.CreatedAt).Truncate(time.Second))+" ago")
	row("updated", stamp(lock.UpdatedAt)+", "+short(now.Sub(lock.UpdatedAt).Truncate(time.Second))+" ago")
	row("expires", stamp(lock.ExpiresAt)+", "+expires(lock, now))
	if lock.FencingToken != 0 {
		row("fencing token", fmt.Sprint(lock.FencingToken))
	}
	if lock.Waiters != 0 {
		row("waiters", fmt.Sprint(lock.Waiters))
	}
	return printed(0, t.Flush())
}

func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// printJSON shows a value as the API has it, on lines of its own.
func printJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return failed("%v", err)
	}
	return printed(fmt.Fprintf(w, "%s\n", b))
}

// printed makes a failure of output that could not be written.
func printed(_ int, err error) error {
	if err != nil {
		return failed("the output could not be written: %v", err)
	}
	return nil
}

// jsonFlag adds --json.
func jsonFlag(flags interface {
	BoolVar(p *bool, name string, value bool, usage string)
}, asJSON *bool) {
	flags.BoolVar(asJSON, "json", false, "print JSON, as the API has it")
}
