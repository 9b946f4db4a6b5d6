package api

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// parseBase checks a base URL. Its errors quote no URL that may hold a password.
func parseBase(s string) (*url.URL, error) {
	shown := strconv.Quote(wire.Printable(s, maxMessage))
	if strings.Contains(s, "@") {
		shown = "(not shown, it holds user info)"
	}
	wrong := func(what string) error { return fmt.Errorf("%s: %s", shown, what) }

	u, err := url.Parse(s)
	if err != nil {
		reason, ok := errors.AsType[*url.Error](err)
		if !ok || strings.Contains(s, "@") {
			return nil, wrong("it cannot be parsed")
		}
		return nil, wrong(wire.Printable(reason.Err.Error(), maxMessage))
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, wrong("it must begin with http:// or https://")
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
	return u, nil
}
