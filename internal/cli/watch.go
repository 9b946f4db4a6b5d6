package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newWatch(p *program) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show what happens to the locks as it happens",
		Long: `Show what happens to the locks as it happens, until it is interrupted. Many
backends only report that some lock was deleted, not which.

Events can be lost when the connection breaks; it is opened again automatically.
Messages on stderr say when it is up and when it is down. With --json each event
is a line of JSON.`,
		Example: examples(
			"relukko watch",
			"relukko watch --json | jq -r 'select(.event == \"deleted\") | .lock_name'",
		),
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	ask := newAsking(cmd, p)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each event as a line of JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		show := printEvent
		if asJSON {
			show = printEventJSON
		}
		return ask.watch(show)
	}
	return cmd
}

func (a *asking) watch(show func(io.Writer, api.Event) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	w, err := c.Watch(context.Background())
	if err != nil {
		return failed("no events from %s: %s", c.BaseURL(), plain(err))
	}
	// An ordinary request tells at once if the address or the key is wrong.
	ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
	_, err = c.List(ctx)
	cancel()
	if err != nil {
		return explain(err, c.BaseURL())
	}
	for event := range w.Events() {
		switch event.Kind {
		case api.EventConnected:
			a.warn("watching %s", c.BaseURL())
		case api.EventDisconnected:
			a.warn("no events from %s at the moment, retrying", c.BaseURL())
		default:
			if err := show(a.Stdout, event); err != nil {
				return err
			}
		}
	}
	return nil
}

func printEvent(w io.Writer, e api.Event) error {
	line := time.Now().Format(time.TimeOnly) + "  " + e.Kind.String()
	switch {
	case e.Lock != nil:
		line += fmt.Sprintf("  %s  %s", printable(e.Lock.Name), holderOf(*e.Lock))
		switch {
		case e.Kind == api.EventDeleted:
		case isUntilReleased(*e.Lock):
			line += ", " + untilReleased
		default:
			line += ", expires " + expires(*e.Lock, time.Now())
		}
	case e.Name != "":
		line += "  " + printable(e.Name)
	case e.ID == "" && e.Kind == api.EventDeleted:
		line += "  (the backend does not say which)"
	}
	if e.ID != "" {
		line += "  " + e.ID
	}
	return printed(fmt.Fprintln(w, line))
}

func printEventJSON(w io.Writer, e api.Event) error {
	b, err := json.Marshal(struct {
		Time  time.Time `json:"time"`
		Event string    `json:"event"`
		ID    string    `json:"id,omitempty"`
		Name  string    `json:"lock_name,omitempty"`
		Lock  *api.Lock `json:"lock,omitempty"`
	}{time.Now().UTC(), e.Kind.String(), e.ID, e.Name, e.Lock})
	if err != nil {
		return failed("%v", err)
	}
	return printed(fmt.Fprintf(w, "%s\n", b))
}
