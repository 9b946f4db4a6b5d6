package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// credentials are the headers that carry one API key. They are never changed.
type credentials struct {
	key   string
	plain http.Header
	body  http.Header // with a content type
	last  atomic.Pointer[preferring]
}

// preferring are the headers of a create with the header Prefer.
type preferring struct {
	what   wire.Preferences
	header http.Header
}

// prefer returns the headers of a create with these preferences. Those of the last one are kept:
// most creates of a program ask for the same.
func (c *credentials) prefer(what wire.Preferences) http.Header {
	last := c.last.Load()
	if last == nil || last.what != what {
		last = &preferring{what, maps.Clone(c.body)}
		last.header[wire.HeaderPrefer] = []string{what.String()}
		c.last.Store(last)
	}
	return last.header
}

// keys are the API keys of a client: a fixed one, or those that a function
// returns, one after the other.
type keys struct {
	ask    func() (string, error) // nil: the key is fixed
	none   *credentials           // without a key
	hidden *secrets
	now    atomic.Pointer[credentials] // nil: no key is known yet

	mu     sync.Mutex
	asking *asking // the call of ask under way
}

// asking is one call of keys.ask, which all that need its result share.
type asking struct {
	done chan struct{} // closed when the others are set
	got  *credentials
	err  error
}

// errSameKey: the key that was refused is still the one to use.
var errSameKey = errors.New("there is no other API key")

func newKeys(header http.Header, key string, ask func() (string, error), hidden *secrets) *keys {
	ks := &keys{ask: ask, none: newCredentials(header, ""), hidden: hidden}
	if ask == nil {
		ks.set(key)
	}
	return ks
}

func newCredentials(header http.Header, key string) *credentials {
	c := &credentials{key: key, plain: header.Clone()}
	if key != "" {
		c.plain[wire.HeaderAPIKey] = []string{key}
	}
	c.body = c.plain.Clone()
	c.body["Content-Type"] = []string{"application/json"}
	return c
}

// set makes key the one to use.
func (ks *keys) set(key string) *credentials {
	c := newCredentials(ks.none.plain, key)
	ks.hidden.add(key)
	ks.now.Store(c)
	return c
}

// change reports whether there may be other keys than the present one.
func (ks *keys) change() bool { return ks.ask != nil }

// get returns the credentials to use. Where refused is not nil they are others,
// or the error is errSameKey.
func (ks *keys) get(ctx context.Context, refused *credentials) (*credentials, error) {
	if now := ks.now.Load(); now != nil && refused == nil {
		return now, nil
	}
	got, err := ks.renew(ctx, refused)
	if err == nil && got == refused {
		err = errSameKey
	}
	return got, err
}

// renew asks for the key again, unless it is no longer that of old.
func (ks *keys) renew(ctx context.Context, old *credentials) (*credentials, error) {
	ks.mu.Lock()
	if now := ks.now.Load(); ks.ask == nil || now != old {
		ks.mu.Unlock()
		return now, nil
	}
	a := ks.asking
	if a == nil {
		a = &asking{done: make(chan struct{})}
		ks.asking = a
		go ks.run(a)
	}
	ks.mu.Unlock()
	select {
	case <-a.done:
		return a.got, a.err
	case <-ctx.Done():
		return nil, over(ctx)
	}
}

// run calls ask for a.
func (ks *keys) run(a *asking) {
	key, err := ks.ask()
	if err == nil {
		if err = checkKey(key); err == nil && key == "" {
			err = errors.New("it is empty")
		}
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	ks.asking = nil
	switch now := ks.now.Load(); {
	case err != nil:
		a.err = fmt.Errorf("API key: %w", err)
	case now != nil && now.key == key:
		a.got = now
	default:
		a.got = ks.set(key)
	}
	close(a.done)
}

// checkKey refuses what cannot be the value of a header. Its errors do not quote it.
func checkKey(key string) error {
	for i := range len(key) {
		if key[i] < ' ' || key[i] == 0x7f {
			return errors.New("it has a control character (a line break at its end?)," +
				" which a header cannot carry")
		}
	}
	if strings.TrimSpace(key) != key {
		return errors.New("it begins or ends with white space, which a header does not carry")
	}
	return nil
}

// maxKeys is how many of the keys that a function has returned are kept out of
// errors: those before were replaced long ago.
const maxKeys = 100

// secrets are the texts that must not show in an error or a log.
type secrets struct {
	mu    sync.Mutex
	fixed []string
	keys  []string // the latest last
}

// fix adds a secret that stays one.
func (s *secrets) fix(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if worthHiding(secret) {
		s.fixed = append(s.fixed, secret)
	}
}

// add adds an API key.
func (s *secrets) add(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if worthHiding(key) {
		s.keys = append(s.keys[max(0, len(s.keys)-maxKeys+1):], key)
	}
}

// worthHiding reports whether a secret is cut out of messages. A shorter text protects nothing, and
// messages without it could not be read.
func worthHiding(secret string) bool { return len(secret) > 3 }

// cut returns text without the secrets in it, the longest first: a shorter one
// may be a part of it.
func (s *secrets) cut(text string) string {
	s.mu.Lock()
	all := slices.Concat(s.fixed, s.keys)
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range all {
		text = strings.ReplaceAll(text, secret, "[secret]")
	}
	return text
}
