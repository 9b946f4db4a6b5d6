package web

import (
	"net/url"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

// The states of a lock on the page.
const (
	stateHeld         = "held"
	stateExpired      = "expired"        // and not swept yet
	stateReserved     = "reserved"       // for a time that somebody has set; no program renews it
	stateOutOfService = "out of service" // held until somebody releases it
)

const (
	// reservedFor is the time for which a lock must be taken to count as reserved. Clients that do
	// not say for how long get 10 min.
	reservedFor = 10 * time.Minute
	// renewsWithin is the longest that a client that renews its lock lets pass between two
	// renewals, with some slack. Without, it is a third of the lease, and at most 30 s.
	renewsWithin = 40 * time.Second
	// firstRenewal is how much later than its creation a lock is changed if somebody renews it.
	// Commands that leave a lock held set its expiry once, right after they have acquired it.
	firstRenewal = 5 * time.Second
)

// row is a lock as the page shows it to everybody. Rows can be compared.
type row struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Holder  string    `json:"holder"`
	Link    string    `json:"link,omitempty"` // that the holder or the reason contains
	Reason  string    `json:"reason"`
	Owner   string    `json:"owner"`
	IP      string    `json:"ip"`
	Since   time.Time `json:"since"`
	Expires time.Time `json:"expires_at"`
	Renewed bool      `json:"renewed,omitempty"` // its holder renews it
	Stale   bool      `json:"stale,omitempty"`   // its holder has stopped to renew it
	Waiters int       `json:"waiters"`
	Token   uint64    `json:"token"`
}

// newRow returns the row of a lock at an instant. A lock that a connection holds is renewed.
func newRow(l *store.Lock, connected bool, waiters int, now time.Time) row {
	r := row{
		Name: l.Name, ID: l.ID, Owner: l.Owner, IP: l.IP, Since: l.CreatedAt, Expires: l.ExpiresAt,
		Waiters: waiters, Token: l.FencingToken,
	}
	r.Holder, r.Reason = holderOf(l.Creator)
	r.Link = linkIn(r.Holder + " " + r.Reason)
	r.setState(l, connected, now)
	return r
}

// setState sets the state, and whether the holder renews the lock. The store does not say so, but
// the times do.
func (r *row) setState(l *store.Lock, connected bool, now time.Time) {
	lease, since := l.ExpiresAt.Sub(l.UpdatedAt), now.Sub(l.UpdatedAt)
	short := lease <= reservedFor // nobody renews a longer one each 30 s
	renewed := short && l.UpdatedAt.Sub(l.CreatedAt) > firstRenewal
	young := l.UpdatedAt.Equal(l.CreatedAt) && lease < 2*renewsWithin
	inTime := since < min(renewsWithin, lease*2/3)
	r.Renewed = connected || (renewed || young) && inTime
	switch {
	case !l.ExpiresAt.Before(wire.UntilReleased):
		r.State = stateOutOfService
	case !now.Before(l.ExpiresAt):
		r.State, r.Renewed, r.Stale = stateExpired, false, true
	case !r.Renewed && !short:
		r.State = stateReserved
	default:
		r.State = stateHeld
		r.Stale = (renewed || young) && !r.Renewed
	}
}

// holderOf returns who a creator says it is, and the reason for which it has the lock.
func holderOf(creator *string) (who, reason string) {
	base, _, _ := wire.CutMarkOf(creator)
	return wire.CutReason(base)
}

// linkIn returns the first http or https URL in a text, or "". A URL that has a user in it could
// look like one of another host.
func linkIn(text string) string {
	for word := range strings.FieldsSeq(text) {
		at := strings.Index(word, "http")
		if at < 0 {
			continue
		}
		link := strings.Trim(word[at:], ".,;:!?)]}>'\"")
		u, err := url.Parse(link)
		if err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" &&
			u.User == nil {
			return u.String()
		}
	}
	return ""
}
