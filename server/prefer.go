package server

import (
	"strings"
	"time"
)

// maxWaitSeconds is the longest that a create may queue.
const maxWaitSeconds = 30

// preferredWait answers for how long the Prefer headers of a request (RFC 7240) ask it to wait, at most 30 s; 0 when they
// don't, or not understandably. The first wait counts, as the RFC has it for all preferences.
func preferredWait(headers []string) time.Duration {
	for _, header := range headers {
		for header != "" {
			var name, value string
			name, value, header = nextPreference(header)
			if strings.EqualFold(name, "wait") {
				return time.Duration(waitSeconds(value)) * time.Second
			}
		}
	}
	return 0
}

func waitSeconds(value string) int {
	if value == "" {
		return 0
	}
	seconds := 0
	for i := range len(value) {
		if value[i] < '0' || value[i] > '9' {
			return 0
		}
		seconds = min(seconds*10+int(value[i]-'0'), maxWaitSeconds)
	}
	return seconds
}

// nextPreference splits the first preference from a header: its name, its value without quotes, and what comes after the
// comma. Parameters of the preference are left out.
func nextPreference(header string) (name, value, rest string) {
	end := tokenEnd(header, ",")
	first, rest := header[:end], strings.TrimPrefix(header[end:], ",")
	first = first[:tokenEnd(first, ";")]
	name, value, _ = strings.Cut(first, "=")
	value = strings.Trim(value, " \t")
	if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
		value = value[1 : len(value)-1]
	}
	return strings.Trim(name, " \t"), value, rest
}

// tokenEnd answers where the first sep outside of a quoted string is, or the length of s.
func tokenEnd(s, sep string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == sep[0]:
			return i
		}
	}
	return len(s)
}
