package main

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

// short words a duration so that a person sees at a glance how long it is.
func short(d time.Duration) string {
	if d < 0 {
		return "-" + short(-max(d, -math.MaxInt64))
	}
	if 0 < d && d < 10*time.Second && d%time.Second != 0 {
		return d.Round(10 * time.Millisecond).String()
	}
	s := int64(d.Round(time.Second) / time.Second)
	day, h, m, s := s/86400, s/3600%24, s/60%60, s%60
	switch {
	case day > 0:
		return parts(day, "d", h, "h")
	case h > 0:
		return parts(h, "h", m, "m")
	case m > 0:
		return parts(m, "m", s, "s")
	}
	return fmt.Sprintf("%ds", s)
}

func parts(a int64, unitA string, b int64, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, unitA)
	}
	return fmt.Sprintf("%d%s%02d%s", a, unitA, b, unitB)
}
