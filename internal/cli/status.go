package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/settings"
	"gitlab.com/relukko/relukko-go/internal/sockets"
	"gitlab.com/relukko/relukko-go/internal/unixsock"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// helloTime is how long the stream may take to open.
const helloTime = 5 * time.Second

func newStatus(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show which backend is used, and whether it accepts the key",
		Long: `Show which backend and which API key the commands use, where each of these
settings comes from, and whether that backend is up and accepts that key. A
backend of this project also reports its version and its store, and the name and
role of the key.

"stream" says whether locks are acquired over one WebSocket. If it is not up,
plain requests do the work: that is slower, and a restart of the backend then
costs waiters their places. It needs a backend of this project, and proxies that
pass WebSockets.

Settings come from the first of these places that has them: the flags;
RELUKKO_BASE_URL, RELUKKO_API_KEY and RELUKKO_API_KEY_FILE in the environment;
~/.config/relukko/client.env; /etc/relukko/client.env; the key that
'relukko serve' of the same user has made, which is for the default URL and for
Unix sockets.

The exit status is 0 when locks can be acquired, 69 when the backend cannot be
reached or refuses the key, and 64 when there is no key.`,
		Example:           examples("relukko status"),
		Args:              arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	ask := newAsking(cmd, p)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return ask.status() }
	return cmd
}

// status prints what is known, also where that is not all.
func (a *asking) status() error {
	look := a.settings()
	url, err := look.BaseURL()
	if err != nil {
		return usage("%s", plain(err))
	}
	key, keyErr := look.Key(url.Value)
	trust := a.getenv(envTrust) != ""
	answers, err := newHeaders()
	if err != nil && !trust {
		return usage("%s", plain(err))
	}
	defer answers.CloseIdleConnections()
	client := &http.Client{Transport: answers}
	c, err := a.clientOf(answers.dial(url), key, api.WithHTTPClient(client))
	if err != nil {
		return err
	}
	base := c.BaseURL()
	if answers.socket != "" {
		base = unixsock.URL(answers.socket)
	}
	state, accepted, problem := a.tryBackend(base, c, keyErr == nil, trust)
	stream := streamState{state: "not tried"}
	if keyErr != nil {
		accepted, key.Origin = "none", "-"
	} else if problem == nil && !trust {
		stream = a.tryStream(url, key)
	}
	err = writeTable(a.Stdout, [][]string{
		{"backend", printable(base)},
		{"  from", printable(url.Origin)},
		{"  state", state},
		{"  version", orDash(answers.last.Get(wire.HeaderVersion))},
		{"  store", orDash(answers.last.Get(wire.HeaderStore))},
		{"  stream", printable(stream.state)},
		{"API key", accepted},
		{"  from", printable(key.Origin)},
		{"  name", orDash(stream.key)},
		{"  role", orDash(stream.role)},
	})
	switch {
	case err != nil:
		return err
	case problem == nil && keyErr != nil && !trust:
		return explainKey(keyErr)
	}
	return problem
}

// tryBackend returns the state of the backend, and whether it accepts the key.
func (a *asking) tryBackend(
	base string, c *api.Client, hasKey, trust bool,
) (state, accepted string, problem error) {
	state, accepted = "up", "accepted"
	problem = a.at(base, c, func(ctx context.Context, c *api.Client) (err error) {
		if hasKey {
			_, err = c.List(ctx)
		} else {
			err = c.Health(ctx)
		}
		switch {
		case trust:
			state, accepted = "not asked: "+envTrust+" is set", "not checked"
		case errors.Is(err, api.ErrRefused):
			accepted = "refused"
		case err != nil:
			state, accepted = "cannot be used", "not checked"
		}
		return err
	})
	return state, accepted, problem
}

// streamState is what is known of the stream.
type streamState struct{ state, key, role string }

// tryStream opens the stream and waits for the server's hello.
func (a *asking) tryStream(url, key settings.Setting) streamState {
	c, err := a.clientOf(url, key)
	if err != nil {
		return streamState{state: "not tried: " + plain(err)}
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), helloTime)
	defer cancel()
	conn, err := sockets.Of(c).Dial(ctx, wire.StreamPath, wire.StreamProtocol, wire.MaxFrame)
	if err != nil {
		if e, ok := errors.AsType[*api.Error](err); ok {
			state := fmt.Sprintf("none (HTTP %d): plain requests are used", e.Status)
			return streamState{state: state}
		}
		return streamState{state: "none: " + plain(err)}
	}
	defer conn.Cut()
	defer context.AfterFunc(ctx, conn.Cut)()
	frame, err := conn.Read()
	if err != nil {
		return streamState{state: "none: the server said no hello"}
	}
	hello, err := wire.ParseStreamMessage(frame)
	if err != nil || hello.Kind != wire.MessageHello {
		return streamState{state: "none: the server said no hello"}
	}
	return streamState{state: "up", key: hello.Key, role: hello.Role}
}

// headers is a transport that keeps the headers of the last answer.
type headers struct {
	*http.Transport
	last   http.Header
	socket string // that it connects to; "" for TCP
}

func newHeaders() (*headers, error) {
	roots, err := api.RootCAsFromEnv()
	t := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	return &headers{Transport: t}, err
}

// dial has all connections made to the Unix socket that the URL names, if it is one. It returns the
// URL for requests.
func (h *headers) dial(url settings.Setting) settings.Setting {
	path, isSocket, err := unixsock.Parse(url.Value)
	if !isSocket || err != nil {
		return url
	}
	h.socket, h.Proxy = path, nil
	h.DialContext = unixsock.Dialer(path)
	url.Value = "http://localhost"
	return url
}

func (h *headers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := h.Transport.RoundTrip(r)
	if err == nil {
		h.last = resp.Header
	}
	return resp, err
}
