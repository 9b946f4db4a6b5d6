package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// holderOf returns who holds a lock.
func holderOf(lock api.Lock) string {
	if who := creatorOf(lock); who != "" {
		return printable(who)
	}
	return "an unnamed holder"
}

// heldBy says who holds a lock, and for how long; nil: an unknown lock.
func heldBy(holder *api.Lock, now time.Time) string {
	if holder == nil {
		return "held by somebody else"
	}
	s := "held by " + holderOf(*holder)
	if holder.IP != "" {
		s += " (" + printable(holder.IP) + ")"
	}
	return s + " for " + short(now.Sub(holder.CreatedAt))
}

// expires says when a lock expires. The times are the backend's: the result is
// off by as much as its clock differs from ours.
func expires(lock api.Lock, now time.Time) string {
	if isUntilReleased(lock) {
		return untilReleased
	}
	left := lock.ExpiresAt.Sub(now).Truncate(time.Second)
	if lock.ExpiresAt.Before(now) {
		return "expired " + short(-left) + " ago"
	}
	return "in " + short(left)
}

const untilReleased = "until released"

func isUntilReleased(lock api.Lock) bool { return !lock.ExpiresAt.Before(wire.UntilReleased) }

// plain returns the text of an error on one line, without the "relukko: " that
// every message of the program begins with.
func plain(err error) string {
	text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "relukko: "), ": relukko: ", ": ")
	return printable(oneLine.Replace(text))
}

// oneLine is for database drivers, whose errors have several lines.
var oneLine = strings.NewReplacer("\n\t", " ", "\n", " ", "\t", " ")

// printable replaces what would control a terminal: names and creators come from
// other people.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// ordinal formats a place: 1st, 2nd, 3rd, 4th.
func ordinal(n int) string {
	suffix := "th"
	if n/10%10 != 1 && n%10 >= 1 && n%10 <= 3 {
		suffix = [...]string{"st", "nd", "rd"}[n%10-1]
	}
	return strconv.Itoa(n) + suffix
}

// short formats a duration with two units at most.
func short(d time.Duration) string {
	if d < 0 {
		return "-" + short(-max(d, -1<<63+1))
	}
	if 0 < d && d < 10*time.Second && d%time.Second != 0 {
		return d.Round(10 * time.Millisecond).String()
	}
	s := int64(d.Round(time.Second) / time.Second)
	day, h, m, s := s/86400, s/3600%24, s/60%60, s%60
	switch {
	case day > 0:
		return twoUnits(day, "d", h, "h")
	case h > 0:
		return twoUnits(h, "h", m, "m")
	case m > 0:
		return twoUnits(m, "m", s, "s")
	}
	return fmt.Sprintf("%ds", s)
}

func twoUnits(a int64, unitA string, b int64, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, unitA)
	}
	return fmt.Sprintf("%d%s%02d%s", a, unitA, b, unitB)
}
