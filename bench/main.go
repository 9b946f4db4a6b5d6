// Command bench measures Relukko beside other ways to have a distributed lock
// in Go, each with its own server on loopback:
//
//	go run .
//	go run . -only memory,etcd -scenario handoff -runs 1 -d 1s
//
// README.md describes what is measured, and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if asked, err := actAs(os.Args[1:]); asked {
		exit(err)
	}
	var p plan
	only := flag.String("only", "",
		"measure these `peers` only, separated by commas: "+strings.Join(names(peers), ", "))
	chosen := flag.String("scenario", "",
		"measure these `scenarios` only, separated by commas: "+strings.Join(scenarioNames(), ", "))
	flag.IntVar(&p.runs, "runs", 5, "how often all is measured, in turns")
	flag.DurationVar(&p.d, "d", 2*time.Second, "how long one measurement takes")
	flag.DurationVar(&p.idle, "idle", 30*time.Second,
		"how long idle waiters are watched, longer than the pause between two of their messages")
	flag.StringVar(&p.profile, "profile", "",
		"`folder` for CPU profiles of this process, one for each measurement")
	flag.Parse()

	var err error
	if p.peers, err = pick(peers, *only, func(p peer) string { return p.name }); err == nil {
		p.scenarios, err = pick(scenarios, *chosen, func(s scenario) string { return s.name })
	}
	if err == nil && (flag.NArg() > 0 || p.runs < 1 || p.d <= 0 || p.idle <= 0) {
		err = errors.New("usage: go run . [-only PEERS] [-scenario NAMES] [-runs N] " +
			"[-d DURATION] [-idle DURATION] [-profile FOLDER]")
	}
	if err != nil {
		exit(err)
	}
	exit(bench(p))
}

// bench measures what is planned and prints the report.
func bench(p plan) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := newSite()
	if err != nil {
		return err
	}
	defer s.close()
	p.progress = os.Stderr
	r, err := p.run(ctx, s)
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	if len(r.failures) > 0 {
		return fmt.Errorf("%d measurements failed", len(r.failures))
	}
	return nil
}

// pick returns the elements that list names, or all where it is empty.
func pick[T any](all []T, list string, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var picked []T
	for wanted := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(t T) bool { return name(t) == wanted })
		if i < 0 {
			return nil, fmt.Errorf("there is no %q", wanted)
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
