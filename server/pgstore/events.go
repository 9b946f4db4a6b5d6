package pgstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	channel    = "relukko_go" // of LISTEN and NOTIFY
	maxPayload = 7999         // bytes that a notification may have

	// formerOwner is the owner of what programs of versions 1 and 2 do.
	formerOwner = "default"
)

// kinds are the kinds of events in notifications. They must not change: programs of several
// versions talk to each other.
var kinds = map[store.EventKind]string{
	store.EventCreated:   "created",
	store.EventUpdated:   "updated",
	store.EventDeleted:   "deleted",
	store.EventCancelled: "called off",
	store.EventMissed:    "missed",
	store.EventFree:      "free",
	store.EventReleased:  "released",
}

// message is an event in a notification, one line of JSON. Times are in microseconds since 1970.
type message struct {
	Kind    string  `json:"k"`
	ID      string  `json:"i,omitempty"`
	Name    string  `json:"n,omitempty"`
	Creator *string `json:"c,omitempty"`
	IP      string  `json:"p,omitempty"`
	Expires int64   `json:"e,omitempty"`
	Created int64   `json:"a,omitempty"`
	Updated int64   `json:"u,omitempty"`
	Token   uint64  `json:"t,omitempty"`
	Mark    string  `json:"m,omitempty"`
	Owner   string  `json:"o,omitempty"`
}

func encode(e store.Event) []byte {
	l := &e.Lock
	m := message{Kind: kinds[e.Kind], Name: l.Name, Mark: e.Mark, Owner: l.Owner}
	if l.ID != "" {
		m.ID, m.Creator, m.IP, m.Token = l.ID, l.Creator, l.IP, l.FencingToken
		m.Expires, m.Created = l.ExpiresAt.UnixMicro(), l.CreatedAt.UnixMicro()
		m.Updated = l.UpdatedAt.UnixMicro()
	}
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false) // six bytes for one
	_ = enc.Encode(m)        // it always encodes
	return bytes.TrimSuffix(line.Bytes(), []byte("\n"))
}

// decode returns the zero Event for a kind that it does not know, which a later version may send.
func decode(line string) (store.Event, error) {
	var m message
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		return store.Event{}, err
	}
	for kind, text := range kinds {
		if text != m.Kind {
			continue
		}
		if m.Owner == "" && (m.ID != "" || kind == store.EventCancelled) {
			m.Owner = formerOwner
		}
		e := store.Event{
			Kind: kind, Lock: store.Lock{Name: m.Name, Owner: m.Owner}, Mark: m.Mark,
		}
		if m.ID != "" {
			e.Lock = store.Lock{
				ID: m.ID, Name: m.Name, Creator: m.Creator, IP: m.IP, FencingToken: m.Token,
				ExpiresAt: fromMicro(m.Expires), CreatedAt: fromMicro(m.Created),
				UpdatedAt: fromMicro(m.Updated), Owner: m.Owner,
			}
		}
		return e, nil
	}
	return store.Event{}, nil
}

func fromMicro(us int64) time.Time { return time.UnixMicro(us).UTC() }

// pack puts events into as few payloads as hold them. Each begins with a line that names the
// sender. An event that is too large becomes an EventMissed.
func pack(sender int64, events []store.Event) []string {
	head := strconv.AppendInt(nil, sender, 16)
	var payloads []string
	payload := bytes.NewBuffer(bytes.Clone(head))
	for _, e := range events {
		line := encode(e)
		if len(head)+1+len(line) > maxPayload {
			line = encode(store.Event{Kind: store.EventMissed})
		}
		if payload.Len()+1+len(line) > maxPayload {
			payloads = append(payloads, payload.String())
			payload.Reset()
			payload.Write(head)
		}
		payload.WriteByte('\n')
		payload.Write(line)
	}
	return append(payloads, payload.String())
}

var errPayload = errors.New("relukko: not understood")

// unpack returns the sender of a payload, and its events; with an error, those it understood.
func unpack(payload string) (sender int64, events []store.Event, err error) {
	head, rest, _ := strings.Cut(payload, "\n")
	if sender, err = strconv.ParseInt(head, 16, 64); err != nil {
		return 0, nil, errPayload
	}
	for line := range strings.SplitSeq(rest, "\n") {
		if line == "" {
			continue
		}
		e, lineErr := decode(line)
		if lineErr != nil {
			err = errPayload
		} else if e.Kind != 0 {
			events = append(events, e)
		}
	}
	return sender, events, err
}
