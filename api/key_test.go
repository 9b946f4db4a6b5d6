package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/settings"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// locksmith hands out keys, and accepts only the one that is valid.
type locksmith struct {
	mu    sync.Mutex
	key   string // that the function returns
	valid string // that the backend accepts
	err   error
	asked int
	seen  []string // by the backend
}

func (l *locksmith) ask() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	return l.key, l.err
}

func (l *locksmith) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *locksmith) serve(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("X-Api-Key")
	l.mu.Lock()
	l.seen = append(l.seen, key)
	ok := key == l.valid
	l.mu.Unlock()
	switch {
	case !ok && r.URL.Path != "/healthchecker":
		answer(403, `{"status":403,"message":"wrong key `+key+`"}`)(w, r)
	case r.URL.Path == "/ws/broadcast":
		if conn, err := websocket.Accept(w, r, nil); err == nil {
			conn.Read(context.Background())
			conn.CloseNow()
		}
	case r.Method == http.MethodGet && r.URL.Path == "/v1/locks/":
		answer(200, "[]")(w, r)
	default:
		answer(200, testLock)(w, r)
	}
}

func (l *locksmith) took() (asked int, seen []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked, seen = l.asked, l.seen
	l.asked, l.seen = 0, nil
	return asked, seen
}

func TestKeysThatChange(t *testing.T) {
	l := &locksmith{key: "first-key", valid: "first-key"}
	c := client(t, serve(t, l.serve), WithAPIKeyFunc(l.ask))
	asked, _ := l.took()
	require.Zero(t, asked, "there was no request yet")
	require.NoError(t, c.Health(t.Context()))
	asked, seen := l.took()
	require.Zero(t, asked)
	require.Equal(t, []string{""}, seen, "health needs no key")

	for range 3 {
		_, err := c.Create(t.Context(), testName, "")
		require.NoError(t, err)
	}
	asked, seen = l.took()
	require.Equal(t, 1, asked)
	require.Equal(t, []string{"first-key", "first-key", "first-key"}, seen)

	// The key changes: one more request, also of what is never repeated.
	l.set(func() { l.key, l.valid = "second-key", "second-key" })
	_, err := c.Create(t.Context(), testName, "")
	require.NoError(t, err)
	asked, seen = l.took()
	require.Equal(t, 1, asked)
	require.Equal(t, []string{"first-key", "second-key"}, seen)

	// It is refused and there is no other: once.
	l.set(func() { l.valid = "third-key" })
	_, err = c.Delete(t.Context(), testID)
	require.ErrorIs(t, err, ErrRefused)
	require.NotContains(t, err.Error(), "second-key")
	asked, seen = l.took()
	require.Equal(t, 1, asked)
	require.Equal(t, []string{"second-key"}, seen)

	// The other one is wrong too: no third request.
	l.set(func() { l.key = "wrong-key" })
	_, err = c.Get(t.Context(), testID)
	require.ErrorIs(t, err, ErrRefused)
	require.NotContains(t, err.Error(), "wrong-key")
	asked, seen = l.took()
	require.Equal(t, 1, asked)
	require.Equal(t, []string{"second-key", "wrong-key"}, seen)

	// A foreign 403 says nothing about the key.
	foreign := client(t, serve(t, answer(403, "log in")), WithAPIKeyFunc(l.ask))
	_, err = foreign.Get(t.Context(), testID)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrRefused)
	asked, _ = l.took()
	require.Equal(t, 1, asked)
}

func TestKeyFuncsThatFail(t *testing.T) {
	l := &locksmith{err: errors.New("the vault is sealed"), valid: "some-key"}
	c := client(t, serve(t, l.serve), WithAPIKeyFunc(l.ask))
	_, err := c.Get(t.Context(), testID)
	require.ErrorIs(t, err, l.err)
	require.EqualError(t, err, "relukko: get lock "+testID+": API key: the vault is sealed")
	require.True(t, NoEffect(err))
	require.False(t, Transient(err))
	asked, seen := l.took()
	require.Equal(t, 1, asked)
	require.Empty(t, seen)

	for _, key := range []string{"", "some-key\n", " some-key"} {
		l.set(func() { l.key, l.err = key, nil })
		_, err = c.Get(t.Context(), testID)
		require.ErrorContains(t, err, "API key: it ")
		require.NotContains(t, err.Error(), "some-key")
		require.True(t, NoEffect(err))
	}
	l.set(func() { l.key = "some-key" })
	_, err = c.Get(t.Context(), testID)
	require.NoError(t, err)

	// Once there was a key, a function that fails is an outage.
	l.took()
	l.set(func() { l.err, l.valid = errors.New("the vault is away"), "next-key" })
	_, err = c.Create(t.Context(), testName, "")
	require.ErrorIs(t, err, l.err)
	require.True(t, Transient(err))
	require.True(t, NoEffect(err))
	time.AfterFunc(100*time.Millisecond, func() {
		l.set(func() { l.key, l.err = "next-key", nil })
	})
	_, err = c.Delete(t.Context(), testID)
	require.NoError(t, err)
}

func TestAKeyFuncThatHangs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var asked atomic.Int32
		c, _ := inMemory(t, answer(200, testLock), WithAPIKeyFunc(func() (string, error) {
			asked.Add(1)
			<-release
			return "some-key", nil
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := c.Create(ctx, testName, "")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.True(t, NoEffect(err))
			})
		}
		wg.Wait()
		require.Equal(t, time.Second, time.Since(begin))
		require.EqualValues(t, 1, asked.Load(), "by one goroutine at a time")
		close(release)
		synctest.Wait()
		_, err := c.Get(t.Context(), testID)
		require.NoError(t, err)
		require.EqualValues(t, 1, asked.Load())
	})
}

func TestTheWebSocketAsksForTheKey(t *testing.T) {
	l := &locksmith{key: "first-key", valid: "first-key"}
	c := client(t, serve(t, l.serve), WithAPIKeyFunc(l.ask))
	for _, key := range []string{"first-key", "second-key"} {
		l.set(func() { l.key, l.valid = key, key })
		w := watch(t, c)
		require.Equal(t, connected, <-w.Events())
		w.Close()
		asked, seen := l.took()
		require.Equal(t, 1, asked)
		require.Equal(t, []string{key}, seen)
	}
	_, err := c.List(t.Context())
	require.NoError(t, err)
	asked, seen := l.took()
	require.Zero(t, asked)
	require.Equal(t, []string{"second-key"}, seen, "of the new key others have a use, too")
}

// Keys that change are as secret as one that does not, and so are those before.
func TestChangedKeysStaySecret(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n := 0
	c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		said := "key-number-1, key-number-12 and " + r.Header.Get("X-Api-Key")
		answer(403, `{"status":403,"message":"`+said+`"}`)(w, r)
	}), WithLogger(logger), WithoutWatch(), WithAPIKeyFunc(func() (string, error) {
		n++
		return "key-number-" + strconv.Itoa(n), nil
	}))
	for range 2 * maxKeys {
		_, err := c.Get(t.Context(), testID)
		require.ErrorIs(t, err, ErrRefused)
		if n > 12 && n < maxKeys {
			require.ErrorContains(t, err, "[secret], [secret] and [secret]")
		}
		require.NotContains(t, err.Error(), "key-number-"+strconv.Itoa(n))
	}
	require.LessOrEqual(t, len(c.transport().secrets.keys), maxKeys)
	now := "key-number-" + strconv.Itoa(n)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", c, c, c), now)
	require.NotContains(t, assertDiff(c), now)
	require.NotContains(t, log.String(), "key-number")
}

func TestKeysFromTheEnvironment(t *testing.T) {
	clearEnv(t)
	l := &locksmith{valid: "new-key"}
	t.Setenv(settings.BaseURL, serve(t, l.serve))
	for _, keys := range []string{"new-key", "new-key,old-key", " , new-key , old-key"} {
		t.Setenv(settings.APIKey, keys)
		c, err := FromEnv()
		require.NoError(t, err)
		_, err = c.List(t.Context())
		require.NoError(t, err, keys)
		require.NoError(t, c.Close())
	}
	for _, keys := range []string{"", ",", " , "} {
		t.Setenv(settings.APIKey, keys)
		_, err := FromEnv()
		require.ErrorIs(t, err, ErrNoAPIKey)
		require.ErrorContains(t, err, "relukko: no API key: ")
		l.set(func() { l.key = "new-key" })
		c, err := FromEnv(WithAPIKeyFunc(l.ask))
		require.NoError(t, err)
		_, err = c.List(t.Context())
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
}
