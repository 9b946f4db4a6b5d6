package web

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/wire"
	"gitlab.com/relukko/relukko-go/server/store"
)

var start = time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)

// at returns a lock by seconds since the start: when it was created, last changed, and expires.
func at(created, updated, expires int) *store.Lock {
	second := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	return &store.Lock{
		Name: "arm", CreatedAt: second(created), UpdatedAt: second(updated),
		ExpiresAt: second(expires),
	}
}

func TestStates(t *testing.T) {
	const day = 24 * 3600
	forever := at(0, 0, 0)
	forever.ExpiresAt = wire.UntilReleased
	for name, row := range map[string]struct {
		lock           *store.Lock
		connected      bool
		now            int
		state          string
		renewed, stale bool
	}{
		"a plain client's":        {at(0, 0, 600), false, 300, stateHeld, false, false},
		"kept alive by a script":  {at(0, 200, 500), false, 300, stateHeld, false, true},
		"of a mutex, new":         {at(0, 0, 60), false, 1, stateHeld, true, false},
		"of a mutex, not renewed": {at(0, 0, 60), false, 41, stateHeld, false, true},
		"of a mutex, renewed":     {at(0, 40, 100), false, 60, stateHeld, true, false},
		"of a mutex, no more":     {at(0, 40, 100), false, 81, stateHeld, false, true},
		"of a mutex, on a stream": {at(0, 40, 100), true, 81, stateHeld, true, false},
		"a short lease":           {at(0, 10, 16), false, 13, stateHeld, true, false},
		"a short lease, late":     {at(0, 10, 16), false, 15, stateHeld, false, true},
		"long, on a stream":       {at(0, 40, day), true, 3600, stateHeld, true, false},
		"acquire --for 1h":        {at(0, 1, 3601), false, 2, stateReserved, false, false},
		"acquire --for 5m":        {at(0, 1, 301), false, 200, stateHeld, false, false},
		"reserved for a day":      {at(0, 0, day), false, 3600, stateReserved, false, false},
		"extended":                {at(0, 3600, day), false, 3601, stateReserved, false, false},
		"out of service":          {forever, false, 3600, stateOutOfService, false, false},
		"expired":                 {at(0, 0, 60), false, 60, stateExpired, false, true},
		"expired, on a stream":    {at(0, 40, 100), true, 101, stateExpired, false, true},
		"reserved until now":      {at(0, 1, 3601), false, 3601, stateExpired, false, true},
		"set to the past":         {at(0, 100, 50), false, 101, stateExpired, false, true},
		"a store that is ahead":   {at(5, 5, 65), false, 4, stateHeld, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			now := start.Add(time.Duration(row.now) * time.Second)
			got := newRow(row.lock, row.connected, 0, now)
			require.Equal(t, row.state, got.State)
			require.Equal(t, row.renewed, got.Renewed, "renewed")
			require.Equal(t, row.stale, got.Stale, "stale")
		})
	}
}

func TestHolders(t *testing.T) {
	for creator, want := range map[string][2]string{
		"":                                       {"", ""},
		"ada@desk/7":                             {"ada@desk/7", ""},
		"ada@desk/7 #k3v9x2m4q7ab":               {"ada@desk/7", ""},
		"ada@desk/7 (flash (1.2)) #k3v9x2m4q7ab": {"ada@desk/7", "flash (1.2)"},
		"(flash)":                                {"(flash)", ""},
		"ada (flash":                             {"ada (flash", ""},
		"ops (see https://x.example/) #a1 (really)": {"ops", "see https://x.example/) #a1 (really"},
	} {
		who, reason := holderOf(&creator)
		require.Equal(t, want, [2]string{who, reason}, creator)
	}
	who, reason := holderOf(nil)
	require.Empty(t, who+reason)
}

func TestLinks(t *testing.T) {
	for text, want := range map[string]string{
		"ci@runner https://ci.example/job/7": "https://ci.example/job/7",
		"see (http://ci.example/7).":         "http://ci.example/7",
		"<https://ci.example/?a=b&c=d>":      "https://ci.example/?a=b&c=d",
		`https://ci.example/"onclick=x`:      "https://ci.example/%22onclick=x",
		"javascript:alert(1)":                "",
		"javascript:http://x":                "http://x",
		"data:text/html,http:x":              "",
		"https://ada@evil.example/":          "",
		"https://ci.example@evil.example/":   "",
		"https:///x http:x https://":         "",
		"httpx://a http":                     "",
		"nothing":                            "",
	} {
		require.Equal(t, want, linkIn(text), text)
	}
}

// A link never leads to anything but a web page of the host that it shows.
func FuzzLinkIn(f *testing.F) {
	f.Add("ci@runner (https://ci.example/7)")
	f.Add("javascript:http:@x https://a@b")
	f.Fuzz(func(t *testing.T, text string) {
		link := linkIn(text)
		if link == "" {
			return
		}
		u, err := url.Parse(link)
		require.NoError(t, err, "%q", link)
		require.Regexp(t, "^https?://[^/@]", link)
		require.Nil(t, u.User)
		require.NotEmpty(t, u.Host)
	})
}

// FuzzLocalPath: where signing in leads is a page of this server.
func FuzzLocalPath(f *testing.F) {
	f.Add("/lock?name=a%20b")
	f.Add("//evil.example/lock")
	f.Fuzz(func(t *testing.T, next string) {
		require.Regexp(t, `^/(lock)?(\?|$)`, localPath(next))
		require.NotContains(t, localPath(next), "\n")
	})
}

// Events may come in another order than that in which things happened, and more than once.
func TestEventsInAnyOrder(t *testing.T) {
	first := store.Lock{ID: "1", Name: "arm", FencingToken: 1, UpdatedAt: start}
	changed := first
	changed.UpdatedAt = start.Add(time.Second)
	second := store.Lock{ID: "2", Name: "arm", FencingToken: 2, UpdatedAt: start}
	created := store.Event{Kind: store.EventCreated, Lock: first}
	updated := store.Event{Kind: store.EventUpdated, Lock: changed}
	deleted := store.Event{Kind: store.EventDeleted, Lock: changed}
	next := store.Event{Kind: store.EventCreated, Lock: second}
	events := []store.Event{created, updated, deleted, next}
	permute(events, func(order []store.Event) {
		var b board
		b.init()
		b.apply(order)
		b.apply(order[:2])
		require.Equal(t, "2", b.locks["arm"].ID, "%v", order)
	})
	permute(events[:3], func(order []store.Event) {
		var b board
		b.init()
		b.apply(order)
		require.Empty(t, b.locks, "%v", order)
	})
	permute(events[:2], func(order []store.Event) {
		var b board
		b.init()
		b.apply(order)
		require.Equal(t, changed, *b.locks["arm"], "%v", order)
	})
}

func permute[T any](all []T, f func([]T)) {
	var from func(n int)
	order := append([]T{}, all...)
	from = func(n int) {
		if n == len(order) {
			f(order)
			return
		}
		for i := n; i < len(order); i++ {
			order[n], order[i] = order[i], order[n]
			from(n + 1)
			order[n], order[i] = order[i], order[n]
		}
	}
	from(0)
}

// One who is too far behind gets all, and so does one who was there before the names that are gone
// were forgotten.
func TestSince(t *testing.T) {
	var b board
	b.init()
	require.Zero(t, b.since(0, "").version, "nothing is known yet")
	b.ready, b.version = true, 9
	b.rows["new"], b.rows["old"] = versioned{row{Name: "new"}, 9}, versioned{row{Name: "old"}, 3}
	b.vanished["gone"] = 8
	b.oldest = 6
	for version, want := range map[uint64]string{
		0: "full 2 []", 4: "full 2 []", 5: "1 [gone]", 7: "1 [gone]", 8: "1 []", 9: "0 []",
	} {
		c := b.since(version, "")
		said := fmt.Sprintf("%d %v", len(c.rows), c.gone)
		if c.full {
			said = "full " + said
		}
		require.Equal(t, want, said, version)
	}
	require.Equal(t, []string{"gone"}, b.since(7, "gone").gone)
	require.Len(t, b.since(7, "new").rows, 1)
	require.Empty(t, b.since(7, "old").rows)
	require.True(t, b.since(0, "nothing").full)
}

// More events than are kept have all locks listed.
func TestTooManyEvents(t *testing.T) {
	var b board
	b.init()
	b.publish(store.Event{Kind: store.EventCreated})
	events, _ := b.take()
	require.Empty(t, events, "nobody looks")
	defer b.watch()()
	b.take()
	for range maxPending + 1 {
		b.publish(store.Event{Kind: store.EventCreated})
	}
	events, missed := b.take()
	require.True(t, missed)
	require.Empty(t, events)
}

// BenchmarkFirstFrame is that of 5,000 locks, for an admin and for a viewer.
func BenchmarkFirstFrame(b *testing.B) {
	p := New(Config{})
	for i := range 5000 {
		creator := fmt.Sprintf("ada@desk-%d/%d (flash 1.2) #k3v9x2m4q7ab", i, i)
		l := at(0, 20, 80)
		l.ID, l.Name = "950daa20-a814-451e-9407-ec496cf9c136", fmt.Sprint("bench-", i)
		l.Creator, l.Owner, l.FencingToken = &creator, "ada", 1795670525465270
		p.board.rows[l.Name] = versioned{newRow(l, true, 0, start), 1}
	}
	p.board.ready, p.board.version = true, 1
	b.ReportAllocs()
	for b.Loop() {
		c := p.board.since(0, "")
		message, err := json.Marshal(p.frameOf(visitor{}, &c))
		require.NoError(b, err)
		b.SetBytes(int64(len(message)))
	}
}
