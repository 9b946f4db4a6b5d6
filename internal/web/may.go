package web

import (
	"cmp"

	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

// may says for each action on a lock why a visitor may not do it; "": the visitor may.
type may struct {
	Release string `json:"release,omitempty"`
	Break   string `json:"break,omitempty"`
	Extend  string `json:"extend,omitempty"`
	Reserve string `json:"reserve,omitempty"`
	Service string `json:"service,omitempty"`
}

// Why an action is not possible.
const (
	notSignedIn   = "sign in to do this"
	onlyReads     = "your key may only read"
	notThisName   = "your key may not lock this name"
	isRenewed     = "its holder renews it: the next renewal would undo this"
	isInUse       = "a program holds it: to take it from that program, break it"
	isNotYours    = "it is not yours: to take it from its holder, break it"
	isOut         = "it is out of service already"
	nothingIsHeld = "nobody has it"
)

// ownRow is a row as one visitor sees it.
type ownRow struct {
	row
	Mine bool `json:"mine,omitempty"`
	May  may  `json:"may"`
}

// own returns a row as the visitor sees it.
func (v visitor) own(r row) ownRow {
	return ownRow{r, v.client != nil && v.client.Name() == r.Owner, v.may(&r)}
}

// may returns what a visitor may do with a lock, or with a name that is free if r has no ID.
func (v visitor) may(r *row) (m may) {
	lock := store.Lock{Name: r.Name, Owner: r.Owner}
	if r.ID == "" {
		taking := v.mayNot(access.Create, &lock)
		return may{nothingIsHeld, nothingIsHeld, nothingIsHeld, taking, taking}
	}
	m.Break = v.mayNot(access.Delete, &lock)
	m.Release, m.Extend = m.Break, v.mayNot(access.Update, &lock)
	if m.Reserve = v.mayNot(access.Create, &lock); m.Reserve == "" {
		m.Reserve = "held by " + cmp.Or(r.Holder, r.Owner)
	}
	m.Service = m.Reserve
	if r.State == stateOutOfService {
		m.Service = isOut
	}
	if m.Release == "" {
		m.Release = v.mayNotRelease(r)
	}
	if m.Extend == "" && r.Renewed {
		m.Extend = isRenewed
	}
	return m
}

// mayNotRelease says why a visitor that may delete the lock should not release but break it.
func (v visitor) mayNotRelease(r *row) string {
	switch {
	case r.Owner != v.client.Name():
		return isNotYours
	case r.Renewed:
		return isInUse
	}
	return ""
}

// mayNot says, in few words, why a visitor may not do that; "" if it may.
func (v visitor) mayNot(do access.Action, lock *store.Lock) string {
	if v.client == nil {
		return notSignedIn
	}
	key, _ := v.client.Key()
	switch {
	case key == nil:
		return notSignedIn
	case key.Role == access.Viewer:
		return onlyReads
	case do != access.Create && key.Role == access.User && lock.Owner != key.Name:
		return "it belongs to " + lock.Owner + ": this needs the role admin"
	case v.client.May(do, lock) != nil:
		return notThisName
	}
	return ""
}
