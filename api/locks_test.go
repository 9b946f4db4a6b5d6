package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What goes over the wire, to the letter.
func TestRequests(t *testing.T) {
	at := time.Date(2099, 12, 31, 13, 34, 56, 789_000_000, time.FixedZone("", 3600))
	me, nobody := "me \"& <you> ä\n", ""
	const one = "/relukko/v1/locks/" + testID
	tests := []struct {
		name                  string
		do                    func(*Client) (Lock, error)
		method, path, body    string
		prefer, noContentType string
	}{
		{name: "create", do: func(c *Client) (Lock, error) {
			return c.Create(t.Context(), testName, "bench-7")
		},
			method: "POST", path: "/relukko/v1/locks/",
			body: `{"lock_name":"robot-arm-1","creator":"bench-7"}`},
		{name: "create for nobody", do: func(c *Client) (Lock, error) {
			return c.Create(t.Context(), testName, "")
		},
			method: "POST", path: "/relukko/v1/locks/",
			body: `{"lock_name":"robot-arm-1","creator":null}`},
		{name: "create, waiting", do: func(c *Client) (Lock, error) {
			return c.Create(t.Context(), testName, "", Wait(30*time.Second))
		},
			method: "POST", path: "/relukko/v1/locks/",
			body: `{"lock_name":"robot-arm-1","creator":null}`, prefer: "wait=30"},
		{name: "create, waiting a little", do: func(c *Client) (Lock, error) {
			return c.Create(t.Context(), testName, "", Wait(1))
		},
			method: "POST", path: "/relukko/v1/locks/",
			body: `{"lock_name":"robot-arm-1","creator":null}`, prefer: "wait=1"},
		{name: "create, waiting long", do: func(c *Client) (Lock, error) {
			return c.Create(t.Context(), testName, "", Wait(1<<63-1))
		},
			method: "POST", path: "/relukko/v1/locks/",
			body: `{"lock_name":"robot-arm-1","creator":null}`, prefer: "wait=30"},
		{name: "create, waiting less than nothing", do: func(c *Client) (Lock, error) {
			return c.Create(t.Context(), testName, "", Wait(-1<<63))
		},
			method: "POST", path: "/relukko/v1/locks/",
			body: `{"lock_name":"robot-arm-1","creator":null}`},
		{name: "get", do: func(c *Client) (Lock, error) {
			return c.Get(t.Context(), testID)
		}, method: "GET", path: one},
		{name: "create with a lease", do: func(c *Client) (Lock, error) {
			return c.Create(t.Context(), "robot-arm-1", "", Lease(1500*time.Millisecond),
				Wait(time.Minute))
		},
			method: "POST", path: "/relukko/v1/locks/",
			body: `{"lock_name":"robot-arm-1","creator":null}`, prefer: "wait=30, lease=1.5"},
		{name: "create with a lease that is too long", do: func(c *Client) (Lock, error) {
			return c.Create(t.Context(), "robot-arm-1", "", Lease(366*24*time.Hour))
		},
			method: "POST", path: "/relukko/v1/locks/",
			body: `{"lock_name":"robot-arm-1","creator":null}`},
		{name: "a lease of what is no create", do: func(c *Client) (Lock, error) {
			return c.Get(t.Context(), testID, Lease(time.Minute))
		}, method: "GET", path: one},
		{name: "get in capitals", do: func(c *Client) (Lock, error) {
			return c.Get(t.Context(), strings.ToUpper(testID))
		}, method: "GET", path: one},
		{name: "delete", do: func(c *Client) (Lock, error) {
			return c.Delete(t.Context(), testID)
		}, method: "DELETE", path: one},
		{name: "update", do: func(c *Client) (Lock, error) {
			return c.Update(t.Context(), testID, Update{})
		},
			method: "PUT", path: one, body: `{"creator":null,"expires_at":null}`},
		{name: "update creator", do: func(c *Client) (Lock, error) {
			return c.Update(t.Context(), testID, Update{Creator: &me})
		},
			method: "PUT", path: one,
			body: `{"creator":"me \"\u0026 \u003cyou\u003e ä\n","expires_at":null}`},
		{name: "update all", do: func(c *Client) (Lock, error) {
			return c.Update(t.Context(), testID, Update{Creator: &nobody, ExpiresAt: &at})
		}, method: "PUT", path: one,
			body: `{"creator":"","expires_at":"2099-12-31T12:34:56.789Z"}`},
		{name: "keep alive", do: func(c *Client) (Lock, error) {
			return c.KeepAlive(t.Context(), testID, time.Minute)
		},
			method: "PUT", path: one + "/keep_alive", body: `{"seconds":60}`},
		{name: "keep alive as the backend does", do: func(c *Client) (Lock, error) {
			return c.KeepAlive(t.Context(), testID, 0)
		},
			method: "PUT", path: one + "/keep_alive", body: `{"seconds":300}`},
		{name: "keep alive by fractions", do: func(c *Client) (Lock, error) {
			return c.KeepAlive(t.Context(), testID, 1500*time.Millisecond)
		},
			method: "PUT", path: one + "/keep_alive", body: `{"seconds":1.5}`},
		{name: "keep alive for ever", do: func(c *Client) (Lock, error) {
			return c.KeepAlive(t.Context(), testID, 1<<63-1)
		},
			method: "PUT", path: one + "/keep_alive", body: `{"seconds":9223372036.854776}`},
		{name: "add to expiry", do: func(c *Client) (Lock, error) {
			return c.AddToExpiry(t.Context(), testID, time.Hour)
		},
			method: "PUT", path: one + "/add_to_expire_at", body: `{"seconds":3600}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var requests atomic.Int32
			c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				body, _ := io.ReadAll(r.Body)
				contentType := ""
				if tt.body != "" {
					contentType = "application/json"
				}
				got := []string{r.Method, r.URL.Path, string(body), r.Header.Get("Prefer"),
					r.Header.Get("X-API-KEY"), r.Header.Get("Content-Type"),
					r.Header.Get("Accept-Encoding"), r.Header.Get("Idempotency-Key")}
				want := []string{tt.method, tt.path, tt.body, tt.prefer, testKey, contentType, "",
					""}
				if fmt.Sprint(got) != fmt.Sprint(want) || r.ContentLength != int64(len(tt.body)) {
					answer(400, fmt.Sprintf("%q", got))(w, r)
					return
				}
				answer(200, testLock)(w, r)
			})+"/relukko/")
			l, err := tt.do(c)
			require.NoError(t, err)
			require.Equal(t, theLock(), l)
			require.EqualValues(t, 1, requests.Load())
		})
	}
}

func TestListAndHealth(t *testing.T) {
	c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /v1/locks/":
			answer(200, " ["+testLock+",\n"+testLock+"] ")(w, r)
		case "GET /healthchecker":
			answer(200, `{"status":"fine"}`)(w, r)
		default:
			answer(404, "not found")(w, r)
		}
	}))
	locks, err := c.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []Lock{theLock(), theLock()}, locks)
	require.NoError(t, c.Health(t.Context()))

	c = client(t, serve(t, answer(200, "[]")))
	locks, err = c.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []Lock{}, locks)
	require.Error(t, client(t, serve(t, answer(404, ""))).Health(t.Context()))
}

// What cannot be asked is refused before anything is sent.
func TestArgumentsAreChecked(t *testing.T) {
	c := client(t, serve(t, func(http.ResponseWriter, *http.Request) {
		t.Error("a request was sent")
	}))
	ctx := t.Context()
	late := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		says string
		err  func() error
	}{
		{`get lock "../healthchecker": a lock's id is a UUID`, func() error {
			_, err := c.Get(ctx, "../healthchecker")
			return err
		}},
		{`delete lock "": a lock's id is a UUID`, func() error {
			_, err := c.Delete(ctx, "")
			return err
		}},
		{`update lock "` + testID + `0"`, func() error {
			_, err := c.Update(ctx, testID+"0", Update{})
			return err
		}},
		{`keep alive lock "950daa20-a814-451e-9407-ec496cf9c13g"`, func() error {
			_, err := c.KeepAlive(ctx, "950daa20-a814-451e-9407-ec496cf9c13g", 0)
			return err
		}},
		{`keep alive lock "950daa20_a814-451e-9407-ec496cf9c136"`, func() error {
			_, err := c.KeepAlive(ctx, "950daa20_a814-451e-9407-ec496cf9c136", 0)
			return err
		}},
		{"keep alive lock " + testID + ": -1s is negative", func() error {
			_, err := c.KeepAlive(ctx, testID, -time.Second)
			return err
		}},
		{"add to expiry of lock " + testID + ": -1s is negative", func() error {
			_, err := c.AddToExpiry(ctx, testID, -time.Second)
			return err
		}},
		{"year 10000", func() error {
			_, err := c.Update(ctx, testID, Update{ExpiresAt: &late})
			return err
		}},
		{"not empty", func() error { _, err := c.Create(ctx, "", ""); return err }},
		{"UTF-8", func() error { _, err := c.Create(ctx, "a\xff", ""); return err }},
		{"a creator is valid UTF-8", func() error {
			_, err := c.Create(ctx, "a", "b\xff")
			return err
		}},
		{"a creator is valid UTF-8", func() error {
			bad := "\xc3("
			_, err := c.Update(ctx, testID, Update{Creator: &bad})
			return err
		}},
	}
	for _, tt := range tests {
		err := tt.err()
		require.ErrorContains(t, err, tt.says)
		require.True(t, strings.HasPrefix(err.Error(), "relukko: "))
		require.True(t, NoEffect(err))
		require.False(t, Transient(err))
	}
}

// The answer to a create bears the name asked for and expires after its
// creation; others may have set an expiry into the past.
func TestAnswersToACreate(t *testing.T) {
	expired := strings.Replace(testLock, "20:14:43", "20:04:42", 1)
	same := strings.Replace(testLock, "20:14:43", "20:04:43", 1)
	for body, says := range map[string]string{
		expired: "201 Created: the answer is a lock that expires before it was created",
		same:    "expires before it was created",
		strings.Replace(testLock, testName, "robot-arm-2",
			1): `the answer is another lock: "robot-arm-2"`,
	} {
		c := client(t, serve(t, answer(201, body)))
		_, err := c.Create(t.Context(), testName, "")
		require.ErrorContains(t, err, says)
		require.False(t, NoEffect(err), "it may well exist")
		e, ok := errors.AsType[*Error](err)
		require.True(t, ok)
		require.Equal(t, 201, e.Status)
	}
	l, err := client(t, serve(t, answer(200, expired))).Get(t.Context(), testID)
	require.NoError(t, err)
	require.True(t, l.ExpiresAt.Before(l.CreatedAt))
	locks, err := client(t, serve(t, answer(200, "["+expired+"]"))).List(t.Context())
	require.NoError(t, err)
	require.Len(t, locks, 1)

	far := strings.NewReplacer("2024-10-31T20:14", "9999-10-31T20:14", "2024-10-31T20:04",
		"0000-10-31T20:04").Replace(testLock)
	l, err = client(t, serve(t, answer(201, far))).Create(t.Context(), testName, "")
	require.NoError(t, err)
	require.Positive(t, l.ExpiresAt.Sub(l.CreatedAt))
}

func TestAListWithSomethingElseInIt(t *testing.T) {
	c := client(t, serve(t, answer(200, "["+testLock+`,{"id":"x"}]`)))
	_, err := c.List(t.Context())
	require.EqualError(t, err,
		`relukko: list locks: 200 OK: the answer is not a list of locks: `+
			`element 1 is not a lock: its id is not a UUID: "x"`)
}

// Every answer to a create says how long the backend lets one wait.
func TestMaxWait(t *testing.T) {
	var header atomic.Value
	var status atomic.Int32
	c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			answer(int(status.Load()), testLock, "Relukko-Wait", header.Load().(string))(w, r)
			return
		}
		answer(200, testLock)(w, r)
	}))
	require.Zero(t, c.MaxWait())
	for _, tt := range []struct {
		status int32
		header string
		want   time.Duration
	}{
		{201, "30", 30 * time.Second}, {409, "20", 20 * time.Second}, {409, "", 0}, {409, "3600",
			30 * time.Second},
		{201, "-1", 0}, {409, "7", 7 * time.Second}, {503, "x", 7 * time.Second}, {201,
			"99999999999999999999", 0}, {403, "1.5", 0}, {201, "2", 2 * time.Second},
	} {
		status.Store(tt.status)
		header.Store(tt.header)
		_, _ = c.Create(t.Context(), testName, "")
		_, err := c.Get(t.Context(), testID)
		require.NoError(t, err)
		require.Equal(t, tt.want, c.MaxWait(), "%v", tt)
	}
}

// Connections are used again, whatever the answer was.
func TestConnectionsAreKept(t *testing.T) {
	var n atomic.Int32
	var remote atomic.Value
	c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if addr := remote.Swap(r.RemoteAddr); addr != nil && addr != r.RemoteAddr {
			t.Error("another connection")
		}
		switch n.Add(1) {
		case 1:
			answer(404, goneBody)(w, r)
		case 2:
			answer(503, strings.Repeat("x", 60<<10))(w, r)
		case 3:
			answer(200, strings.Repeat(" ", 100<<10)+testLock)(w, r)
		default:
			answer(200, testLock)(w, r)
		}
	}))
	for range 5 {
		_, _ = c.Get(t.Context(), testID)
		_, _ = c.AddToExpiry(t.Context(), testID, 0)
	}
	require.EqualValues(t, 10, n.Load())
}

func TestFind(t *testing.T) {
	other := strings.NewReplacer(testID, otherID, testName, "robot arm & 2").Replace(testLock)
	for name, list := range map[string]string{
		"a backend that searches":        "[" + other + "]",
		"a backend that ignores a query": "[" + testLock + "," + other + "]",
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				require.Equal(t, "/v1/locks/", r.URL.Path)
				if r.URL.Query().Get("lock_name") == "free" {
					answer(200, strings.ReplaceAll(list, other, testLock))(w, r)
					return
				}
				require.Equal(t, "robot arm & 2", r.URL.Query().Get("lock_name"))
				answer(200, list)(w, r)
			}))
			l, err := c.Find(t.Context(), "robot arm & 2")
			require.NoError(t, err)
			require.Equal(t, otherID, l.ID)
			_, err = c.Find(t.Context(), "free")
			require.ErrorIs(t, err, ErrGone)
			require.EqualError(t, err, `relukko: find lock "free": nobody holds it`)
			require.False(t, Transient(err))
			require.True(t, NoEffect(err))
		})
	}
	c := client(t, serve(t, answer(404, goneBody)))
	_, err := c.Find(t.Context(), testName)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrGone, "404 to a list is no news of a lock")
	_, err = c.Find(t.Context(), "")
	require.ErrorContains(t, err, "a lock's name is valid UTF-8 and not empty")
}
