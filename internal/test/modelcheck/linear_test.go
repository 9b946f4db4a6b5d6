package modelcheck_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// The replies to the clients must be a linearizable history of one lock object for
// each name. What the backend does by itself (sweeps, locks taken back from a
// queue, a restart that forgets), and what the plan does by hand, are operations
// at the instants of its record.

const linearTime = time.Minute // that a history may take to be checked

var linearized, undecided atomic.Int64 // histories

// operation is an input and its output.
type operation struct {
	what    string // of a request, or the cause of a removal
	answer  outcome
	id      string // of the lock that it is about, or that it made
	expires int64  // what it says of that, in µs
}

// outcome is what an operation came to.
type outcome string

const (
	done   outcome = "done"
	isGone outcome = "gone" // the lock id does not hold the name
	isHeld outcome = "held" // by the lock id, or by any lock
	isFree outcome = "free" // nobody holds the name
)

// checkLinear runs outside of the bubble: the check takes real time. Where several locks are
// created at one instant, the names are one object: nobody may see some of them.
func (w *world) checkLinear() {
	found := w.effects()
	names := make([][]string, 0, len(w.plan.names))
	for _, name := range w.plan.names {
		names = append(names, []string{name})
	}
	if w.plan.together() {
		names = [][]string{w.plan.names}
	}
	for _, names := range names {
		what := "the locks " + strings.Join(names, ", ")
		w.linear(what, holderModel(names), w.holders(names, found))
	}
	for _, rec := range w.order {
		w.linear("the expiry of lock "+brief(rec.id), expiryModel, w.expiryHistory(rec, found))
	}
}

// holders is the history of who held these names.
func (w *world) holders(names []string, found effects) (ops []porcupine.Operation) {
	for _, x := range w.exchange {
		var all parts
		last := moment{}
		for _, name := range names {
			if op, ret, ok := w.operation(x, name, found); ok {
				all = append(all, part{name, op})
				last.seq = max(last.seq, ret.seq)
			}
		}
		if all != nil {
			ops = append(ops, porcupine.Operation{ClientId: x.client, Input: all,
				Call: x.call.seq, Return: last.seq})
		}
	}
	add := func(rec *lockRecord, what string, at int64) {
		if slices.Contains(names, rec.name) {
			op := part{rec.name, operation{what: what, id: rec.id, answer: done}}
			ops = append(ops, porcupine.Operation{ClientId: len(w.clients), Input: parts{op},
				Call: at, Return: at})
		}
	}
	for _, rec := range w.order {
		if rec.unknown {
			add(rec, ofCreate, rec.created.seq)
		}
		if rec.removed != nil && rec.removed.cause != released {
			add(rec, rec.removed.cause, rec.removed.seq)
		}
	}
	return ops
}

func (w *world) linear(what string, model porcupine.Model, ops []porcupine.Operation) {
	result := porcupine.CheckOperationsTimeout(model, ops, linearTime)
	linearized.Add(1)
	switch result {
	case porcupine.Unknown:
		undecided.Add(1)
	case porcupine.Illegal:
		w.wrong("the history of %s is not linearizable:%s", what, stuck(model, ops))
	}
}

// stuck shows where a history is not linearizable: the end of the longest order,
// and the operations that cannot come next.
func stuck(model porcupine.Model, ops []porcupine.Operation) string {
	_, info := porcupine.CheckOperationsVerbose(model, ops, linearTime)
	var longest []porcupine.Operation
	for _, partial := range info.PartialLinearizationsOperations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	text := ""
	add := func(what string, op porcupine.Operation) {
		text += fmt.Sprintf("\n    %s %6d to %6d: c%d %+v", what, op.Call, op.Return, op.ClientId,
			op.Input)
	}
	type id struct {
		client    int
		call, ret int64
	}
	idOf := func(op porcupine.Operation) id { return id{op.ClientId, op.Call, op.Return} }
	in := make(map[id]bool)
	for i, op := range longest {
		in[idOf(op)] = true
		if i >= len(longest)-5 {
			add("then", op)
		}
	}
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	left := 0
	for _, op := range ops {
		if !in[idOf(op)] && left < 5 {
			add("but ", op)
			left++
		}
	}
	return text
}

// operation is what an exchange means for one name.
func (w *world) operation(x *exchange, name string, found effects) (
	op operation, ret moment, ok bool) {
	op = operation{what: x.what, answer: done, id: x.id}
	if e, lost := found.on(x, name); lost {
		op.id = e.on.id
		return op, e.by, true
	}
	if !x.understood() || !w.isAbout(x, name) {
		return op, never, false // the first: it never took effect
	}
	switch a := x.answer(); {
	case x.status == 200 && x.what == ofList:
		op.answer, op.id = listed(x, name)
	case x.status == 204:
	case x.status < 300:
		_, op.id = listed(x, name)
		op.answer = w.carriedOut(x, op.id)
	case x.what == ofCreate && x.status == 409:
		op.answer = isHeld
		if a.Lock != nil {
			op.id = a.Lock.ID
		}
	case x.what != ofCreate && (x.status == 404 || x.status == 422):
		op.answer = isGone
	default:
		return op, never, false
	}
	return op, x.ret, true
}

// carriedOut returns what a 2xx about a lock means: it was done. But a release may be answered as
// the first time, since an earlier request of the same client had released the lock before x was
// sent: isGone.
func (w *world) carriedOut(x *exchange, id string) outcome {
	rec := w.locks[id]
	if x.what != ofRelease || rec.removed == nil || rec.removed.cause != released ||
		!rec.removed.before(x.call) {
		return done
	}
	for _, y := range w.exchange {
		if y.what == ofRelease && y.id == x.id && y.client == x.client &&
			y.call.before(rec.removed.moment) {
			return isGone
		}
	}
	return done
}

// listed returns what a list says of a name.
func listed(x *exchange, name string) (answer outcome, id string) {
	answer, id = isFree, x.id
	for _, l := range x.locks() {
		if l.Name == name {
			answer, id = isHeld, l.ID
		}
	}
	return answer, id
}

// isAbout reports whether an exchange says something of a name.
func (w *world) isAbout(x *exchange, name string) bool {
	switch {
	case x.what == ofList:
		return true
	case x.id != "":
		return w.locks[x.id] != nil && w.locks[x.id].name == name
	case len(x.names) == 1:
		return x.names[0] == name
	}
	// A create of several names says which it has created, or one that is held.
	return slices.ContainsFunc(x.locks(), func(l answerJSON) bool { return l.Name == name })
}

// part is what an operation does to one name.
type part struct {
	name string
	operation
}

// parts is an operation on several names.
type parts []part

// holderModel is names: its state has the id of the lock that holds each, or "".
func holderModel(names []string) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return [3]string{} },
		Step: func(state, input, _ any) (bool, any) {
			held, possible := state.([3]string), true
			for _, p := range input.(parts) {
				at := slices.Index(names, p.name)
				var ok bool
				ok, held[at] = step(held[at], p.operation)
				possible = possible && ok
			}
			return possible, held
		},
		Equal: func(a, b any) bool { return a == b },
	}
}

// step reports whether an operation is possible while the lock holder holds the name, and which
// holds it afterwards.
func step(holder string, op operation) (bool, string) {
	switch {
	case op.what == forgotten:
		return true, ""
	case op.what == ofCreate && op.answer == done:
		return holder == "", op.id
	case op.answer == isHeld && op.id == "":
		return true, holder // a backend may have reserved a free name for another client
	case op.answer == isFree:
		return holder == "", holder
	case op.answer == isGone:
		return holder != op.id, holder
	case op.answer == isHeld, op.what == ofRenew, op.what == ofGet:
		return holder == op.id, holder
	}
	return holder == op.id, "" // it is removed
}
