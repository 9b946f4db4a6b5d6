package web

import (
	"errors"

	"gitlab.com/relukko/relukko-go/internal/guard"
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

// Why an action is not possible whoever asks for it.
const (
	notSignedIn   = "sign in to do this"
	isRenewed     = "its holder renews it: the next renewal would undo this"
	isInUse       = "a program holds it and renews it: to take it from that program, break it"
	isNotYours    = "it is not yours: to take it from its holder, break it"
	isNotFree     = "it is not free: `relukko hold` waits for it, or break it first"
	isOut         = "it is out of service already"
	nothingIsHeld = "nobody has it"
)

// may returns what a visitor may do with a lock, or with a name that is free if r has no ID.
func (v visitor) may(r *row) (m may) {
	lock := store.Lock{Name: r.Name, Owner: r.Owner}
	if r.ID == "" {
		taking := v.mayNot(access.Create, &lock)
		return may{nothingIsHeld, nothingIsHeld, nothingIsHeld, taking, taking}
	}
	m.Break = v.mayNot(access.Delete, &lock)
	m.Release, m.Extend = m.Break, v.mayNot(access.Update, &lock)
	m.Reserve = v.mayNot(access.Create, &lock)
	if m.Service = m.Reserve; m.Reserve == "" {
		m.Reserve, m.Service = isNotFree, isNotFree
		if r.State == stateOutOfService {
			m.Service = isOut
		}
	}
	if m.Release == "" {
		m.Release = v.mayNotRelease(r)
	}
	if m.Extend == "" && r.Renewed {
		m.Extend = isRenewed
	}
	return m
}

// mayNotRelease says why a visitor who may delete the lock should break it instead of releasing it.
func (v visitor) mayNotRelease(r *row) string {
	switch {
	case r.Owner != v.client.Name():
		return isNotYours
	case r.Renewed:
		return isInUse
	}
	return ""
}

// mayNot says why a visitor may not do that; "" if it may.
func (v visitor) mayNot(do access.Action, lock *store.Lock) string {
	if v.client == nil {
		return notSignedIn
	}
	err := v.client.May(do, lock)
	if denied, ok := errors.AsType[*access.DeniedError](err); ok {
		return denied.Missing
	}
	if errors.Is(err, guard.ErrKeyGone) {
		return notSignedIn
	}
	return ""
}
