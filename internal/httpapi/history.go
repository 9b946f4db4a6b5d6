package httpapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gitlab.com/relukko/relukko-go/internal/reply"
	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

const defaultHistory = 100 // entries

// history lists the locks that have ended, the newest first.
func (a *api) history(w http.ResponseWriter, r *http.Request) {
	q, err := historyQuery(r.URL.RawQuery)
	if err != nil {
		a.fail(w, r, err, "")
		return
	}
	ended, err := a.engine.History(r.Context(), q)
	if err != nil {
		a.fail(w, r, err, "")
		return
	}
	out := make([]wire.Ended, len(ended))
	for i := range ended {
		out[i] = reply.Ended(&ended[i])
	}
	body, err := json.Marshal(out)
	if err != nil { // a year that RFC 3339 cannot express
		a.fail(w, r, err, "")
		return
	}
	writeJSON(w, http.StatusOK, body)
}

// historyQuery reads the query of a request for the history. The error is a [*wire.RequestError].
func historyQuery(raw string) (q store.HistoryQuery, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, &wire.RequestError{Message: "the query is not valid: " + err.Error()}
	}
	q.Limit = defaultHistory
	for name, all := range values {
		value := all[0]
		switch name {
		case "lock_name":
			q.Name = value
		case "since":
			q.Since, err = timeOf(name, value)
		case "until":
			q.Until, err = timeOf(name, value)
		case "limit":
			q.Limit, err = strconv.Atoi(value)
			if err != nil || q.Limit < 1 || q.Limit > wire.MaxHistory {
				err = invalid("limit must be a number from 1 to " +
					strconv.Itoa(wire.MaxHistory) + ", it is " + strconv.Quote(value))
			}
		default:
			err = invalid("the history has no parameter " + strconv.Quote(name) +
				": it has lock_name, since, until and limit")
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

func timeOf(name, value string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, value)
	if err != nil || !wire.TimeInRange(t.UTC()) {
		return time.Time{}, invalid(name + " must be an RFC 3339 time, like " +
			"2099-12-31T12:34:56.789Z, with + written as %2B, it is " + strconv.Quote(value))
	}
	return t.UTC(), nil
}

func invalid(message string) error {
	return &wire.RequestError{Message: wire.Printable(message, 300)}
}
