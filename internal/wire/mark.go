package wire

import (
	"crypto/rand"
	"strings"
)

// A mark says which Lock call made a lock: that of k3v5x2m4q7ab has the creator
// "user@host/42 #k3v5x2m4q7ab". It is 12 letters and digits of markDigits, 5
// random bits each; marks of others may have any lower-case letters and digits.
const (
	markDigits = "abcdefghijklmnopqrstuvwxyz234567"
	markLength = 12
	markPrefix = " #"
)

// NewMark returns a fresh mark. It is drawn from crypto/rand, so that two
// clones of one virtual machine never draw the same.
func NewMark() string {
	var mark [markLength]byte
	rand.Read(mark[:]) // never fails
	for i, r := range mark {
		mark[i] = markDigits[r%32]
	}
	return string(mark[:])
}

// ValidMark reports whether s has the form of a mark.
func ValidMark(s string) bool {
	if len(s) != markLength {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// WithMark returns the creator with mark at its end.
func WithMark(creator, mark string) string { return creator + markPrefix + mark }

// CutMark returns the creator without the mark at its end, the mark, and
// whether there is one. Without one, base is all of creator.
func CutMark(creator string) (base, mark string, ok bool) {
	i := len(creator) - markLength
	if i < len(markPrefix) || !ValidMark(creator[i:]) {
		return creator, "", false
	}
	base, ok = strings.CutSuffix(creator[:i], markPrefix)
	if !ok {
		return creator, "", false
	}
	return base, creator[i:], true
}

// CutMarkOf is [CutMark] for a creator that may be nil, which has no mark.
func CutMarkOf(creator *string) (base, mark string, ok bool) {
	if creator == nil {
		return "", "", false
	}
	return CutMark(*creator)
}

// WithReason returns the creator with the reason for which it has the lock: "user@host (reason)".
// It adds nothing for "".
func WithReason(creator, reason string) string {
	if reason == "" {
		return creator
	}
	return creator + " (" + reason + ")"
}

// CutReason returns the parts of a creator, without a mark, that [WithReason] returned.
func CutReason(creator string) (base, reason string) {
	base, after, _ := strings.Cut(creator, " (")
	if reason, ok := strings.CutSuffix(after, ")"); ok {
		return base, reason
	}
	return creator, ""
}
