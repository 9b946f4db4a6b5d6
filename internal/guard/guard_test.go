package guard

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

func key(name string, role access.Role, secret string) access.Key {
	return access.Key{Name: name, Role: role, Hash: sha256.Sum256([]byte(secret))}
}

func newGuard(log *bytes.Buffer, keys ...access.Key) *Guard {
	return New(keys, Limits{}, slog.New(slog.NewJSONHandler(log, nil)), nil)
}

func TestAdmit(t *testing.T) {
	var log bytes.Buffer
	g := newGuard(&log, key("ada", access.User, "1"), key("eve", access.Viewer, "2"),
		key("root", access.Admin, "1"))
	c, err := g.Admit("1", Origin{})
	require.NoError(t, err)
	require.Equal(t, "ada", c.Name(), "the first of two with one hash counts")
	_, err = g.Admit("", Origin{})
	require.ErrorIs(t, err, ErrWrongKey)

	now, replaced := c.Key()
	require.Equal(t, access.User, now.Role)
	g.SetKeys([]access.Key{key("ada", access.Viewer, "1")})
	<-replaced
	require.ErrorContains(t, c.Check(access.Create, &store.Lock{Name: "arm"}), "viewer")
	g.SetKeys([]access.Key{key("bob", access.Admin, "1")})
	now, _ = c.Key()
	require.Nil(t, now, "a key with another name is another key")
	require.False(t, c.Unlimited())
	require.ErrorIs(t, c.Check(access.Create, &store.Lock{Name: "arm"}), ErrKeyGone)
}

func TestAllowed(t *testing.T) {
	var log bytes.Buffer
	narrow := key("ada", access.User, "1")
	narrow.Patterns = []string{"a*"}
	c, err := newGuard(&log, narrow).Admit("1", Origin{})
	require.NoError(t, err)
	for names, want := range map[string]string{
		"a1 a2": "a1 a2", "b a1 c a2 d": "a1 a2", "a1 b": "a1", "b a1": "a1", "b c": "",
	} {
		allowed, err := c.Allowed(strings.Fields(names), false)
		require.Equal(t, strings.Fields(want), append([]string{}, allowed...))
		require.Equal(t, want == "", err != nil, "%v", err)
	}
	log.Reset()
	_, err = c.Allowed([]string{"a1", "b", "c"}, true)
	require.ErrorContains(t, err, `lock "b": the key "ada"`)
	require.Equal(t, 1, strings.Count(log.String(), "\n"))
}

// Wrong keys are slowed down by address, and written at most once a second.
func TestFloods(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := newGuard(&log, key("ada", access.User, "1"))
		from := Origin{IP: "192.0.2.1", Agent: "curl\n8"}
		try := func(ip string) error {
			_, err := g.Admit("wrong", Origin{IP: ip})
			return err
		}
		began := time.Now()
		for range floodLimit {
			_, err := g.Admit("wrong", from)
			require.ErrorIs(t, err, ErrWrongKey)
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 2, strings.Count(log.String(), "\n"), "in 2 s: %s", log.String())
		var flood *FloodError
		require.ErrorAs(t, try("192.0.2.1"), &flood)
		require.Equal(t, time.Minute-time.Since(began), flood.Retry)
		_, err := g.Admit("1", from)
		require.NoError(t, err, "never with a right key")
		require.ErrorIs(t, try("192.0.2.2"), ErrWrongKey, "never from another address")
		time.Sleep(flood.Retry)
		require.ErrorIs(t, try("192.0.2.1"), ErrWrongKey)

		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		var last map[string]any
		require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &last))
		require.Equal(t, "refused: wrong or missing X-API-KEY", last["msg"])
		require.EqualValues(t, floodLimit+3, last["wrong_keys"])
		require.Contains(t, lines[0], `"ip":"192.0.2.1","user_agent":"curl 8"`)
	})
}

// However many addresses there are, and however they are chosen, the memory is the same.
func TestFloodsFromEverywhere(t *testing.T) {
	var f floods
	for i := range 100_000 {
		f.add(fmt.Sprintf("2001:db8:%x:%x::1", i>>8, i&0xff))
	}
	require.Len(t, f.slots, floodSlots)
	require.EqualValues(t, 100_000, f.total)
	require.Equal(t, "2001:db8:1:2::/64", network("2001:db8:1:2:3:4:5:6"))
	require.Equal(t, network("2001:db8::1"), network("2001:db8::ffff:1"))
	require.NotEqual(t, network("::ffff:192.0.2.1"), network("::ffff:192.0.2.2"))
	require.Equal(t, "unix", network("unix"))
}

// A client whose requests are refused again and again does not fill the disk.
func TestRefusalsAreLimited(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := newGuard(&log, key("eve", access.Viewer, "1"), key("eve", access.Viewer, "2"),
			key("bob", access.Viewer, "3"))
		refuse := func(secret string) {
			c, err := g.Admit(secret, Origin{IP: "192.0.2.1"})
			require.NoError(t, err)
			require.Error(t, c.Check(access.Delete, &store.Lock{Name: "arm", ID: "17",
				Owner: "ada"}))
		}
		for range refusalLimit {
			refuse("1")
			refuse("2")
		}
		refuse("3")
		require.Equal(t, refusalLimit+1, strings.Count(log.String(), "\n"))
		time.Sleep(refusalWindow)
		log.Reset()
		refuse("2")
		var line map[string]any
		require.NoError(t, json.Unmarshal(log.Bytes(), &line))
		delete(line, "time")
		require.Equal(t, map[string]any{
			"level": "WARN", "msg": "refused", "action": "delete", "key": "eve", "role": "viewer",
			"owner": "ada", "lock": "arm", "id": "17", "holder": "", "holder_ip": "",
			"ip": "192.0.2.1", "user_agent": "", "omitted": float64(refusalLimit),
			"reason": `lock "arm" of the key "ada": the key "eve" has the role viewer, which may ` +
				`only read: this needs the role admin`,
		}, line)
	})
}

func BenchmarkAdmit(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		keys := access.Admins("the key of the tests")
		for i := range n - 1 {
			keys = append(keys, access.Admins(fmt.Sprint(i))...)
		}
		g := New(keys, Limits{}, slog.New(slog.DiscardHandler), nil)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := g.Admit("the key of the tests", Origin{IP: "192.0.2.1"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
