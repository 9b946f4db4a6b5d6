package wire

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The headers of the protocol, in the canonical form that http.Header has.
const (
	HeaderAPIKey            = "X-Api-Key"
	HeaderPrefer            = "Prefer"             // see [Preferences]
	HeaderPreferenceApplied = "Preference-Applied" // names the preferences that were honoured
	HeaderWait              = "Relukko-Wait"       // see [FormatWait]
	HeaderMark              = "Relukko-Mark"       // on a release by the holder: the lock's own
	HeaderVersion           = "Relukko-Version"    // of the server, on lists of locks
	HeaderStore             = "Relukko-Store"      // its kind: memory, bolt, postgres; ditto
	HeaderReason            = "X-Relukko-Reason"   // of a delete, see [FormatReason]
)

const maxReason = 500 // bytes

// FormatReason formats, for the header X-Relukko-Reason, why a person deletes a lock.
func FormatReason(reason string) string { return url.PathEscape(Printable(reason, maxReason)) }

// ParseReason reads what [FormatReason] has written, on one line. Text that is not
// percent-encoded stays as it is.
func ParseReason(s string) string {
	if reason, err := url.PathUnescape(s); err == nil {
		s = reason
	}
	return Printable(s, maxReason)
}

// MaxWait is the longest that a create may queue on a backend.
const MaxWait = 30 * time.Second

// FormatWait formats, for the header Relukko-Wait, how long the backend lets a
// create queue.
func FormatWait(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// ParseWait reads what [FormatWait] has written: at most [MaxWait], 0 for
// anything that makes no sense.
func ParseWait(s string) time.Duration {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, MaxWait)
}

// The range of a lease that a create may ask for.
const (
	MinLease = 500 * time.Millisecond
	MaxLease = 365 * 24 * time.Hour
)

// Preferences is what a create asks for in the header Prefer (RFC 7240).
type Preferences struct {
	Wait  time.Duration // to queue for a held name as long, in whole seconds; 0: not at all
	Lease time.Duration // to get a leased lock that expires so long after its creation; 0: not
}

const ( // the preferences, in both headers
	preferWait  = "wait"
	preferLease = "lease"
)

// String formats p for the header Prefer. It is empty for the zero Preferences.
func (p Preferences) String() string {
	var b []byte
	if p.Wait > 0 {
		b = append(b, preferWait+"="...)
		b = strconv.AppendInt(b, int64(p.Wait/time.Second), 10)
	}
	if p.Lease > 0 {
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = append(b, preferLease+"="...)
		b = appendSeconds(b, p.Lease)
	}
	return string(b)
}

// Applied names the preferences in p, for the header Preference-Applied.
func (p Preferences) Applied() string {
	switch {
	case p.Wait > 0 && p.Lease > 0:
		return preferWait + ", " + preferLease
	case p.Wait > 0:
		return preferWait
	case p.Lease > 0:
		return preferLease
	}
	return ""
}

// ParsePrefer reads the values of the header Prefer. A wait is at most [MaxWait], a lease is
// rounded to microseconds. Of several with one name the first one counts, as the RFC has it, also
// where it makes no sense, or is a lease out of range, and therefore asks for nothing.
func ParsePrefer(values []string) (p Preferences) {
	waits, leases := false, false
	for _, value := range values {
		for value != "" {
			var name, arg string
			name, arg, value = nextPreference(value)
			switch {
			case !waits && strings.EqualFold(name, preferWait):
				p.Wait, waits = parseWait(arg), true
			case !leases && strings.EqualFold(name, preferLease):
				p.Lease, leases = parseLease(arg), true
			}
		}
	}
	return p
}

func parseWait(s string) time.Duration {
	var seconds time.Duration
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
		seconds = min(seconds*10+time.Duration(s[i]-'0'), MaxWait/time.Second)
	}
	return seconds * time.Second
}

func parseLease(s string) time.Duration {
	if strings.Trim(s, ".0123456789") != "" { // what else ParseFloat understands
		return 0
	}
	d, _ := parseSeconds(s, MinLease.Seconds(), MaxLease.Seconds())
	return d
}

// nextPreference cuts the first preference from a header's value: its name, its
// argument without quotes, and what comes after the comma. Parameters of the
// preference are left out.
func nextPreference(value string) (name, arg, rest string) {
	end := indexUnquoted(value, ',')
	first, rest := value[:end], strings.TrimPrefix(value[end:], ",")
	first = first[:indexUnquoted(first, ';')]
	name, arg, _ = strings.Cut(first, "=")
	arg = strings.Trim(arg, " \t")
	if len(arg) >= 2 && arg[0] == '"' && arg[len(arg)-1] == '"' {
		arg = arg[1 : len(arg)-1]
	}
	return strings.Trim(name, " \t"), arg, rest
}

// indexUnquoted returns the index of the first sep outside of quoted strings,
// or the length of s.
func indexUnquoted(s string, sep byte) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == sep:
			return i
		}
	}
	return len(s)
}
