package pgstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// largest is an event about the largest lock that the server lets through.
func largest() store.Event {
	creator := strings.Repeat(`"`, 1024)
	at := time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	return store.Event{Kind: store.EventUpdated, Lock: store.Lock{
		ID: newID(), Name: strings.Repeat(
			`\`, 255), Creator: &creator, IP: "2001:db8:1234:5678:9abc:def0:1234:5678%interface-0",
		ExpiresAt: at, CreatedAt: at, UpdatedAt: at, FencingToken: 1<<63 - 1,
		Owner: strings.Repeat("x", 100),
	}}
}

// TestPayloadsHoldWhatIsToBeTold: each as much as PostgreSQL takes, nothing lost.
func TestPayloadsHoldWhatIsToBeTold(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 100} {
		var events []store.Event
		for range n {
			events = append(events, largest(),
				store.Event{Kind: store.EventCancelled, Mark: "k3v5x2m4q7ab",
					Lock: store.Lock{Owner: owner}})
		}
		var got []store.Event
		payloads := pgstore.Pack(-42, events)
		for _, payload := range payloads {
			require.LessOrEqual(t, len(payload), pgstore.MaxPayload)
			sender, some, err := pgstore.Unpack(payload)
			require.NoError(t, err)
			require.Equal(t, int64(-42), sender)
			got = append(got, some...)
		}
		require.Equal(t, events, got)
		require.LessOrEqual(t, len(payloads), 1+n/2, "two such fit")
	}
}

// TestEventsOfEarlierPrograms have no owner: it is "default".
func TestEventsOfEarlierPrograms(t *testing.T) {
	const id = "950daa20-a814-451e-9407-ec496cf9c136"
	_, events, err := pgstore.Unpack("1\n" + `{"k":"called off","m":"k3v5x2m4q7ab"}
{"k":"deleted","i":"` + id + `","n":"robot-arm-1"}
{"k":"free","n":"robot-arm-1"}`)
	require.NoError(t, err)
	require.Len(t, events, 3)
	require.Equal(t, store.Event{Kind: store.EventCancelled, Mark: "k3v5x2m4q7ab",
		Lock: store.Lock{Owner: "default"}}, events[0])
	require.Equal(t, "default", events[1].Lock.Owner)
	require.Equal(t, store.Event{Kind: store.EventFree, Lock: store.Lock{Name: "robot-arm-1"}},
		events[2])
}

func FuzzUnpack(f *testing.F) {
	for _, payload := range append(pgstore.Pack(1, []store.Event{largest()}), "", "\n", "-3e\n{",
		"zz\n{}", "1\n\n{}\n[]\nnull") {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		sender, events, err := pgstore.Unpack(payload)
		if err != nil {
			return
		}
		var again []store.Event
		for _, p := range pgstore.Pack(sender, events) {
			_, some, err := pgstore.Unpack(p)
			require.NoError(t, err)
			again = append(again, some...)
		}
		if len(payload) < 1000 {
			require.Equal(t, events, again)
		}
	})
}
