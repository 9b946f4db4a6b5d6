package modelcheck_test

import (
	"encoding/json"
	"net/http"
	"slices"
)

// effects determines which of the requests with lost answers took effect, on which lock, and by
// when. Such a request may take effect at any time after it was sent, or never; the backend's
// record has the effect, but not which of several equal requests caused it. Any that was sent
// before will do: they are the same operation. An effect without a request is a violation.
func (w *world) effects() effects {
	found := make(effects)
	for _, rec := range w.order {
		w.explain(found, "created", rec, rec.created,
			func(x *exchange) bool {
				return x.what == ofCreate && x.status < 300 && slices.Contains(x.ids(), rec.id)
			},
			func(x *exchange) bool {
				return x.what == ofCreate && x.creator == rec.creator &&
					slices.Contains(x.names, rec.name)
			})
		for _, lease := range rec.leases[1:] {
			if lease.by >= 0 {
				w.explainRenewal(found, rec, lease)
			}
		}
		if rec.removed != nil {
			w.explainRemoval(found, rec, rec.removed)
		}
	}
	return found
}

func (w *world) explainRenewal(found effects, rec *lockRecord, lease leaseRecord) {
	w.explain(found, "renewed", rec, lease.moment,
		func(x *exchange) bool {
			return x.what == ofRenew && x.answer().ID == rec.id &&
				x.answer().ExpiresAt.UnixMicro() == w.µs(lease)
		},
		func(x *exchange) bool { return x.what == ofRenew && x.id == rec.id })
}

func (w *world) explainRemoval(found effects, rec *lockRecord, r *removal) {
	if r.cause == released {
		w.explain(found, "released", rec, r.moment,
			func(x *exchange) bool {
				return x.what == ofRelease && x.id == rec.id && x.status < 300 && x.understood()
			},
			func(x *exchange) bool { return x.what == ofRelease && x.id == rec.id })
	}
}

// explain finds the request that had an effect at moment m. There is nothing to find if
// one was acknowledged; otherwise it is the latest of those that may have been lost.
func (w *world) explain(found effects, what string, rec *lockRecord, m moment,
	acknowledged, lost func(x *exchange) bool) {
	var likely *exchange
	for _, x := range w.exchange {
		if !x.call.before(m) {
			break
		}
		if x.ret != never && acknowledged(x) {
			return
		}
		if !found.taken(x, rec.name) && !x.understood() && lost(x) {
			likely = x
		}
	}
	if likely == nil && what == "created" && w.openAt(rec) {
		rec.unknown = true
		return
	}
	if likely == nil {
		w.wrong("no client has requested this: lock %s of %s %s at %v", brief(rec.id), rec.name,
			what, m.at)
		return
	}
	found[likely] = append(found[likely], effect{rec, m})
}

// openAt reports whether a create was under way, or had ended with an unknown outcome, when a lock
// of its mark was made. The server asks the store again after an unknown outcome: when the first
// lock was deleted it has made another. One that was refused for a cancel may take effect until the
// cancel is confirmed.
func (w *world) openAt(rec *lockRecord) bool {
	return slices.ContainsFunc(w.exchange, func(x *exchange) bool {
		return x.what == ofCreate && x.creator == rec.creator && x.call.before(rec.created) &&
			(rec.created.before(x.ret) || !x.understood() || x.status == http.StatusGone)
	})
}

// effects are the effects of requests with lost answers.
type effects map[*exchange][]effect

// taken reports whether another effect excludes that a request had one on a name: only a create of
// all of several names has several.
func (e effects) taken(x *exchange, name string) bool {
	return slices.ContainsFunc(e[x], func(e effect) bool { return !x.all || e.on.name == name })
}

// on returns the effect of a request on a name.
func (e effects) on(x *exchange, name string) (found effect, ok bool) {
	i := slices.IndexFunc(e[x], func(e effect) bool { return e.on.name == name })
	if i < 0 {
		return effect{}, false
	}
	return e[x][i], true
}

// effect is what a request did whose answer was lost.
type effect struct {
	on *lockRecord
	by moment
}

// answer decodes the body of an answer, once.
func (x *exchange) answer() *answerJSON {
	if x.decoded == nil {
		x.decoded = new(answerJSON)
		var err error
		switch {
		case !x.answered:
		case len(x.body) > 0 && x.body[0] == '[':
			err = json.Unmarshal(x.body, &x.listed)
		default:
			err = json.Unmarshal(x.body, x.decoded)
		}
		if err != nil {
			*x.decoded, x.listed = answerJSON{}, nil
		}
	}
	return x.decoded
}

// understood reports whether the answer is the backend's own and has the outcome; a
// 503, for example, has not.
func (x *exchange) understood() bool {
	a := x.answer()
	switch {
	case !x.answered:
		return false
	case x.status < 300:
		return a.ID != "" || x.status == 204 || x.what == ofList && len(x.body) > 0 &&
			x.body[0] == '[' || x.all && len(x.listed) > 0
	}
	return a.Message != nil && a.Status == x.status && x.status < 500
}
