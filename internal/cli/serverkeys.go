package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/settings"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
)

// shortKey is the length, in bytes, from which an API key is not called short.
const shortKey = 16

// serverKeys are the API keys of a server.
type serverKeys struct {
	keys []string // that may do everything. Without named ones, none: the server makes one
	file string   // that they come from; "" for none
	addr net.Addr // that the server listens on

	named     []access.Key
	namedFile string // that these come from; "" for none

	// What came of a key that the server made.
	kept                  string // the file that has it
	made, published       bool
	notKept, notPublished error
}

// serverKeys returns the keys that the flags or the environment configure for a server
// at addr, with those in the file of --keys. Other machines reach only one that has some.
func (p *program) serverKeys(addr net.Addr, namedFile string) (*serverKeys, error) {
	if namedFile == "" {
		namedFile = p.getenv(envKeysFile)
	}
	k := &serverKeys{addr: addr, namedFile: namedFile}
	var err error
	if k.keys, k.file, err = p.settings().ServerKeys(); err != nil {
		return nil, usage("%s", plain(err))
	}
	if namedFile != "" {
		if k.named, err = readKeysFile(namedFile); err != nil {
			return nil, usage("--keys: %s", plain(err))
		}
	}
	if err = k.check(k.keys, k.named); err != nil {
		return nil, usage("%s", plain(err))
	}
	if k.none() && !isLocal(addr) {
		return nil, &failure{statusUsage, "no API key: other machines can reach " +
			addr.String() + ", so set " + envKey + ", " +
			"or name a file that has keys with --api-key-file or --keys", makeKey}
	}
	return k, nil
}

// check returns an error if one of the named keys is also one that may do everything, or if one
// that may do everything is a line of a file of named keys: all that may read that file would have
// it.
func (k *serverKeys) check(keys []string, named []access.Key) error {
	for _, key := range keys {
		if line, err := access.Parse(strings.NewReader(key)); err == nil {
			return fmt.Errorf("the API keys of --api-key-file or %s contain the line of the key "+
				"%q of a file of --keys: name that file with --keys", envKey, line[0].Name)
		}
	}
	for _, admin := range access.Admins(keys...) {
		for _, key := range named {
			if key.Hash == admin.Hash {
				return fmt.Errorf("--keys: %s: the key %q is also given by --api-key-file or %s, "+
					"where it may do everything", k.namedFile, key.Name, envKey)
			}
		}
	}
	return nil
}

// none reports whether no key is configured, so that the server makes one.
func (k *serverKeys) none() bool { return len(k.keys)+len(k.named) == 0 }

// all returns the keys for the server.
func (k *serverKeys) all() []access.Key { return append(access.Admins(k.keys...), k.named...) }

const makeKey = "`relukko key new` makes a key"

// complete makes a key for a server that has none, whose store is open. It is kept in
// the file path, so that it outlives the server. Afterwards clients can find it.
func (k *serverKeys) complete(p *program, path string) error {
	if !k.none() {
		return nil
	}
	k.made = true
	if path == "" {
		k.keys = []string{settings.NewKey()}
		return nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return failed("%s", plain(err))
	}
	key, err := settings.KeepKey(path)
	k.keys = []string{key}
	switch {
	case errors.Is(err, settings.ErrKeyFile):
		return &failure{statusFailed, plain(err), "Set " + envKey + ", or delete the file: " +
			"then a new key is made, and clients that have the old one are refused"}
	case err != nil:
		k.notKept = err
		return nil
	}
	k.kept = path
	if base := urlOf(k.addr, false); settings.PublishesKey(base) {
		k.notPublished = settings.PublishKey(p.getenv, base, key)
		k.published = k.notPublished == nil
	}
	return nil
}

// announce logs what came of complete, and for a key that was made the link to the page.
func (k *serverKeys) announce(log *serveLog, link string) {
	if k.notKept != nil {
		log.Warn("the API key cannot be kept", "error", k.notKept)
	}
	if k.notPublished != nil {
		log.Warn("clients will not find the API key by themselves", "error", k.notPublished)
	}
	switch {
	case k.kept != "":
		log.keptKey(k.kept, k.published)
	case k.made:
		log.madeKey(k.keys[0])
	case k.file == "": // else reload warns
		k.warnShort(log.Logger)
	}
	if k.made && link != "" && reachesBrowsers(k.addr) {
		log.page(link)
	}
}

// warnShort warns of keys that others may guess.
func (k *serverKeys) warnShort(log *slog.Logger) {
	if isLocal(k.addr) {
		return
	}
	for _, key := range k.keys {
		if len(key) < shortKey {
			log.Warn("other machines can reach the server, and an API key has fewer than 16 "+
				"characters, so it may be guessed: "+makeKey, "addr", k.addr.String())
			return
		}
	}
}

// reload has files reload the keys where they come from files: from all of them together, so that a
// key can move from one to the other in any order.
func (k *serverKeys) reload(backend *server.Server, files *reloader) {
	var from []string
	for _, file := range []string{k.file, k.namedFile} {
		if file != "" {
			from = append(from, file)
		}
	}
	if len(from) == 0 {
		return
	}
	_ = files.add("API keys", func() (err error) { // which logs an error
		keys, named := k.keys, k.named
		if k.file != "" {
			if keys, err = settings.ReadKeys(k.file); err != nil {
				return err
			}
		}
		if k.namedFile != "" {
			if named, err = readKeysFile(k.namedFile); err != nil {
				return err
			}
		}
		if err := k.check(keys, named); err != nil {
			return err
		}
		k.keys, k.named = keys, named
		backend.SetKeys(k.all()...)
		if k.file != "" {
			k.warnShort(files.log)
		}
		return nil
	}, from...)
}
