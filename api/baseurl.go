package api

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/unixsock"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

// target is what a base URL names.
type target struct {
	url    *url.URL // of requests
	socket string   // the path of the Unix socket; "" for TCP
}

// shown returns the base URL for people, without user info.
func (b *target) shown() string {
	if b.socket != "" {
		return unixsock.URL(b.socket)
	}
	u := *b.url
	u.User = nil
	return u.String()
}

// parseBase checks a base URL. Its errors quote no URL that may hold a password.
func parseBase(s string) (*target, error) {
	shown := strconv.Quote(wire.Printable(s, maxMessage))
	if strings.Contains(s, "@") {
		shown = "(not shown, it holds user info)"
	}
	wrong := func(what string) error { return fmt.Errorf("%s: %s", shown, what) }

	if path, ok, err := unixsock.Parse(s); ok {
		if err != nil {
			return nil, wrong(err.Error())
		}
		return &target{&url.URL{Scheme: "http", Host: "localhost"}, path}, nil
	}
	u, err := url.Parse(s)
	reason, quotable := errors.AsType[*url.Error](err)
	switch {
	case err == nil && u.Scheme != "http" && u.Scheme != "https",
		err != nil && !strings.Contains(s, "://"): // as in 127.0.0.1:3000
		return nil, wrong("it must begin with http://, https:// or unix://")
	case err != nil && (!quotable || strings.Contains(s, "@")):
		return nil, wrong("it cannot be parsed")
	case err != nil:
		return nil, wrong(wire.Printable(reason.Err.Error(), maxMessage))
	case u.Hostname() == "":
		return nil, wrong("it names no host")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return nil, wrong("it must have neither query nor fragment")
	case strings.Contains(u.EscapedPath(), "@"):
		return nil, wrong("write / as %2F in a user name or password, and @ as %40 in a path")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, wrong("there is no such port")
		}
	}
	escaped := u.EscapedPath()
	slashes := len(escaped) - len(strings.TrimRight(escaped, "/"))
	u.Path = u.Path[:len(u.Path)-slashes]
	if u.RawPath != "" {
		u.RawPath = u.RawPath[:len(u.RawPath)-slashes]
	}
	return &target{url: u}, nil
}
