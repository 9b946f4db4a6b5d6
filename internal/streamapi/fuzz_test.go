package streamapi_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/memstore"
)

// FuzzConversation sends a frame for each line of the input. Whatever they are, each message of the
// server is one of the protocol, responses are to requests that were sent, and no name is held by
// two locks. Other clients notice nothing.
func FuzzConversation(f *testing.F) {
	one, two := acquire("a", markOf(1)), acquire("a", markOf(2), waits, progress)
	for _, seed := range []string{
		`{"n":1,` + one + "}\n" + `{"n":2,` + two + "}\n" + `{"n":3,` + cancel(markOf(1)) + "}",
		`{"n":1,` + two + "}\n" + `{"n":2,` + two + "}\n" + `{"n":3,` + cancel(markOf(2)) + "}",
		`{"n":1,` + one + "}\n" + `{"n":5,` + acquire("a", markOf(1), again) + "}",
		`{"n":1,` + renew(nobody, time.Second) + "}\n" + `{"n":2,` + release(nobody) + "}",
		`{"n":1,` + acquireAny(markOf(3), "b", "a") + "}\n" + `{"n":1,"ping":true}`,
		`{"n":9,"frobnicate":{}}` + "\n[]\n\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, conversation string) {
		b := start(t, memstore.New())
		c, other := b.connect("ada"), b.connect("bob")
		lines := strings.Split(conversation, "\n")
		if len(lines) > 50 {
			return
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.hear(t)
		}()
		for _, line := range lines {
			if len(line) > 60_000 || c.write(line) != nil {
				break
			}
		}
		require.True(t, other.ask(1, ping).Pong)
		_ = c.write(`{"n":9007199254740991,"ping":true}`)
		<-ended
		held := map[string]bool{}
		locks, err := b.engine.List(context.Background())
		require.NoError(t, err)
		for _, l := range locks {
			require.False(t, held[l.Name])
			held[l.Name] = true
		}
	})
}

// hear reads messages until the last pong or the end of the connection.
func (c *client) hear(t *testing.T) {
	for {
		_, text, err := c.ws.Read(context.Background())
		if err != nil {
			return
		}
		var m message
		if !json.Valid(text) || json.Unmarshal(text, &m) != nil {
			t.Errorf("not a message: %s", text)
		}
		answers := m.Lock != nil || m.Locks != nil || m.Done || m.Pong || m.Waiting != nil ||
			m.Error != nil
		if answers != (m.N > 0) {
			t.Errorf("a response to nothing: %s", text)
		}
		if m.N == 9007199254740991 {
			return
		}
	}
}
