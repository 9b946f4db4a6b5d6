//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/access"
)

var linkLine = regexp.MustCompile(`relukko: the page, a link that signs in once within 5 min: ` +
	`(http://127\.0\.0\.1:\d+/sign-in/link)\?(token=[\w-]{43})\n`)

// visits makes requests as a browser does.
func visits(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	c := &http.Client{Jar: jar, Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func page(t *testing.T, resp *http.Response, err error) (int, string) {
	t.Helper()
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// The plain quick start prints a link that signs in once.
func TestServePrintsALink(t *testing.T) {
	t.Parallel()
	s := serveWith(t, nil, "--store", "memory")
	link := linkLine.FindStringSubmatch(s.stderr.await(t, "token="))
	require.NotNil(t, link, s.stderr)
	c := visits(t)
	resp, err := c.Get(link[1] + "?" + link[2])
	status, body := page(t, resp, err)
	require.Equal(t, 200, status, body)
	token, err := url.ParseQuery(link[2])
	require.NoError(t, err)
	resp, err = c.PostForm(link[1], token)
	status, body = page(t, resp, err)
	require.Equal(t, 200, status, body)
	require.Contains(t, body, `data-user="default" data-role="admin"`)
	resp, err = visits(t).PostForm(link[1], token)
	status, _ = page(t, resp, err)
	require.Equal(t, 403, status)
	s.stop()
	require.NotContains(t, s.stderr.String(), s.key)
}

// There is a page where somebody can sign in, unless the flag says otherwise.
func TestServeHasAPage(t *testing.T) {
	t.Parallel()
	key := access.Key{Name: "ada", Role: access.User, Hash: sha256.Sum256([]byte("secret"))}
	keys := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(keys, []byte(key.String()+"\n"), 0o600))
	user := []string{envKey + "=k", "RELUKKO_USER=ops", "RELUKKO_PASSWORD=a good password"}
	for name, row := range map[string]struct {
		env, args []string
		signsIn   url.Values // nil: there is no page
		shows     string
	}{
		"a key alone": {[]string{envKey + "=k"}, nil, nil, ""},
		"a key, --web on": {[]string{envKey + "=k"}, []string{"--web=on"},
			url.Values{"key": {"k"}}, `data-user="default" data-role="admin"`},
		"a user": {user, nil, url.Values{"user": {"ops"}, "password": {"a good password"}},
			`data-user="ops" data-role="admin"`},
		"a user, --web off": {user, []string{"--web", "off"}, nil, ""},
		"a file of keys": {[]string{envKey + "=k"}, []string{"--keys", keys},
			url.Values{"key": {"secret"}}, `data-user="ada" data-role="user"`},
		"everybody": {[]string{envKey + "=k"}, []string{"--public-view"}, url.Values{},
			`data-user="" data-role="viewer"`},
		"--web off": {nil, []string{"--web", "off"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveWith(t, row.env, append([]string{"--store", "memory"}, row.args...)...)
			c := visits(t)
			if row.signsIn == nil {
				resp, err := c.Get(s.url + "/")
				status, body := page(t, resp, err)
				require.Equal(t, 404, status)
				require.Contains(t, body, `"status":404`)
				require.NotContains(t, s.stderr.String(), "token=")
				return
			}
			resp, err := c.Get(s.url + "/")
			if len(row.signsIn) > 0 {
				_, body := page(t, resp, err)
				require.Contains(t, body, `action="/sign-in"`)
				resp, err = c.PostForm(s.url+"/sign-in", row.signsIn)
			}
			status, body := page(t, resp, err)
			require.Equal(t, 200, status, body)
			require.Contains(t, body, row.shows)
			s.stop()
			for _, secret := range []string{"a good password", "secret"} {
				require.NotContains(t, s.stderr.String(), secret)
			}
		})
	}
}

// A page that nobody could sign in to as it is meant is an error of the command line.
func TestServeRefusesAPage(t *testing.T) {
	t.Parallel()
	for says, row := range map[string]struct{ env, args []string }{
		`--web: "yes" is neither on nor off`: {nil, []string{"--web=yes"}},
		"RELUKKO_USER and RELUKKO_PASSWORD belong together: set both or none": {
			[]string{"RELUKKO_USER=ops"}, nil},
		"--public-view: there is no page with --web off": {
			nil, []string{"--web=off", "--public-view"}},
		`RELUKKO_USER: "Jörg" is no name of a key: it has 1 to 64`: {
			[]string{"RELUKKO_USER=Jörg", "RELUKKO_PASSWORD=x"}, nil},
	} {
		args := append([]string{"serve", "--addr", "127.0.0.1:0", "--store", "memory"}, row.args...)
		status, _, stderr := run(t, append(row.env, envKey+"=k"), args...)
		require.Equal(t, 64, status, stderr)
		require.True(t, strings.Contains(stderr, says), stderr)
	}
}

// No browser can connect to a Unix socket, so no link is printed for one.
func TestNoLinkOnASocket(t *testing.T) {
	t.Parallel()
	addr := "unix:" + filepath.Join(t.TempDir(), "s")
	s := launch(t, nil, []string{"serve", "--store", "memory", "--addr", addr})
	s.stderr.await(t, "clients of this user find it\n")
	s.signal(syscall.SIGTERM)
	require.Zero(t, s.awaitEnd())
	require.NotContains(t, s.stderr.String(), "token=")
}

// The page of a server shows what happens on another one of the same database.
func TestThePageOfTwoServers(t *testing.T) {
	t.Parallel()
	database := postgres.Database(t)
	env := []string{envKey + "=k"}
	one := serveWith(t, env, "--store", database, "--public-view")
	two := serveWith(t, env, "--store", database)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, one.url+"/page/live", nil)
	require.NoError(t, err)
	defer conn.CloseNow()
	shows := func(what string) {
		t.Helper()
		for message := ""; !strings.Contains(message, what); {
			_, frame, err := conn.Read(ctx)
			require.NoError(t, err, what)
			message = string(frame)
		}
	}
	shows(`"full":true`)
	lock, err := two.client().Create(ctx, "arm", "ada")
	require.NoError(t, err)
	shows(`"name":"arm"`)
	waits := launch(t, two.env(), []string{"run", "arm", "--", "true"})
	shows(`"waiters":1`)
	_, err = two.client().Delete(ctx, lock.ID)
	require.NoError(t, err)
	shows(`"gone":["arm"]`)
	require.Zero(t, waits.awaitEnd(), waits.stderr)
}
