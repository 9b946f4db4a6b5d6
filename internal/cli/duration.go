package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// duration is a flag's value: a Go duration, a number of seconds, or with d for
// days. It cannot be negative.
type duration struct{ d *time.Duration }

func durationVar(cmd *cobra.Command, d *time.Duration, name, usage string) {
	cmd.Flags().Var(duration{d}, name, usage)
}

func (v duration) Set(s string) error {
	d, err := parseDuration(s)
	if err != nil {
		return err
	}
	*v.d = d
	return nil
}

func (v duration) String() string {
	if v.d == nil || *v.d == 0 {
		return ""
	}
	return short(*v.d)
}

func (v duration) Type() string { return "duration" }

func parseDuration(s string) (time.Duration, error) {
	text := s
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		text += "s"
	}
	var days time.Duration
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		if days, text = time.Duration(n)*24*time.Hour, after; text == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration like 90s, 5m, 1h30m or 2d", s)
	case d < 0:
		return 0, fmt.Errorf("a duration cannot be negative")
	case d > math.MaxInt64-days:
		return 0, fmt.Errorf("%q is too long", s)
	}
	return days + d, nil
}

// wholeSeconds checks a lease.
func wholeSeconds(flag string, d time.Duration) error {
	if d < time.Second || d%time.Second != 0 {
		return usage("%s: give whole seconds, at least one", flag)
	}
	return nil
}
