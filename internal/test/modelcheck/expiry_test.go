package modelcheck_test

import (
	"github.com/anishathalye/porcupine"
)

// expiryHistory is what clients learned about the expiry of one lock, and what
// they did to it.
func (w *world) expiryHistory(rec *lockRecord, found effects) []porcupine.Operation {
	var ops []porcupine.Operation
	add := func(client int, what string, expires int64, call, ret moment) {
		op := operation{what: what, answer: done, id: rec.id, expires: expires}
		ops = append(ops, porcupine.Operation{ClientId: client, Input: op, Call: call.seq,
			Return: ret.seq})
	}
	for i, lease := range rec.leases {
		if i == 0 || lease.by < 0 {
			add(len(w.clients), ofRenew, w.µs(lease), lease.moment, lease.moment)
		}
	}
	for _, x := range w.exchange {
		if lost := found[x]; lost != nil && x.what == ofRenew && lost[0].on == rec {
			for _, lease := range rec.leases {
				if lease.moment == lost[0].by {
					add(x.client, ofRenew, w.µs(lease), x.call, lost[0].by)
				}
			}
			continue
		}
		for _, l := range x.locks() {
			if l.ID == rec.id && x.what == ofRenew {
				add(x.client, ofRenew, l.ExpiresAt.UnixMicro(), x.call, x.ret)
			} else if l.ID == rec.id {
				add(x.client, ofGet, l.ExpiresAt.UnixMicro(), x.call, x.ret)
			}
		}
	}
	return ops
}

func (w *world) µs(lease leaseRecord) int64 {
	return w.start.Add(lease.expires + w.plan.offset).UnixMicro()
}

// locks returns the locks in an answer.
func (x *exchange) locks() []answerJSON {
	switch a := x.answer(); {
	case !x.understood():
	case x.listed != nil:
		return x.listed
	case a.Lock != nil:
		return []answerJSON{*a.Lock}
	case a.ID != "":
		return []answerJSON{*a}
	}
	return nil
}

// ids returns the ids of the locks in an answer.
func (x *exchange) ids() (ids []string) {
	for _, l := range x.locks() {
		ids = append(ids, l.ID)
	}
	return ids
}

// expiryModel is one lock: its state is when it expires, in µs.
var expiryModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		op := input.(operation)
		return op.what == ofRenew || state == op.expires, op.expires
	},
	Equal: func(a, b any) bool { return a == b },
}
