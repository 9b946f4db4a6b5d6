package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
)

func newAcquire(t *target) *cobra.Command {
	var (
		f      lockFlags
		lease  = time.Hour
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "acquire NAME",
		Short: "Take a lock and leave it held",
		Long: `Take a lock, print its id, and leave it held until --for has run out or somebody
releases it (relukko release). For CI systems whose steps are processes of their
own.

Nobody renews the lock meanwhile and nobody watches over it: when the job takes
longer than planned, use relukko extend before --for is over. Where one process
can do the whole job, relukko run is better.

Exit status 75 when the lock was not acquired in time.`,
		Example: examples(
			"id=$(relukko acquire staging --wait 10m --for 2h --creator \"$CI_JOB_URL\")",
			"# … other steps …",
			"relukko release \"$id\"",
		),
		Args:              arguments(1, 1),
		ValidArgsFunction: completeNames(t, 1),
	}
	f.add(cmd)
	durationVar(cmd, &lease, "for", "how long to hold it, in whole seconds")
	jsonFlag(cmd.Flags(), &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if lease < time.Second || lease%time.Second != 0 {
			return usage("--for: whole seconds, at least one")
		}
		f.read(cmd)
		return f.acquire(cmd, t, args[0], lease, asJSON)
	}
	return cmd
}

// acquire leaves a lock behind only if its id could be printed.
func (f *lockFlags) acquire(cmd *cobra.Command, t *target, name string, lease time.Duration, asJSON bool) error {
	c, err := t.client()
	if err != nil {
		return err
	}
	brokenPipes()
	signals := notify(ending...)
	w := newWaiting(c.BaseURL())
	l := newLocks(c, []string{name}, f.options(w, lease))
	if err := f.take(l, w, signals); err != nil {
		return err
	}
	lock, err := hold(c, l.sessions()[0].Info().ID, lease)
	if err == nil {
		if asJSON {
			err = printJSON(cmd.OutOrStdout(), lock)
		} else {
			err = printed(fmt.Fprintln(cmd.OutOrStdout(), lock.ID))
		}
	}
	if err == nil {
		return nil // with the client it ends what would renew or release the lock
	}
	failure := explain(err, c.BaseURL())
	if err := l.release(); err != nil {
		failure.text += ". The lock may still be held: " + plain(err)
	}
	end(c, lostCleanUpTimeout)
	return failure
}

// hold has a lock that was just made expire after its lease.
func hold(c *api.Client, id string, lease time.Duration) (api.Lock, error) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	lock, err := c.KeepAlive(ctx, id, lease)
	if errors.Is(err, api.ErrGone) {
		return lock, &failure{statusLost, fmt.Sprintf("lock %s was deleted as soon as it was there", id)}
	}
	return lock, err
}
