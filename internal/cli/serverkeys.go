package cli

import (
	"errors"
	"log/slog"
	"net"
	"path/filepath"

	"gitlab.com/relukko/relukko-go/internal/settings"
	"gitlab.com/relukko/relukko-go/server"
)

// shortKey is the length, in bytes, from which an API key is not called short.
const shortKey = 16

// serverKeys are the API keys of a server.
type serverKeys struct {
	keys []string // none: the server makes one
	file string   // that they come from; "" for none
	addr net.Addr // that the server listens on

	// What came of a key that the server made.
	kept                  string // the file that has it
	made, published       bool
	notKept, notPublished error
}

// serverKeys returns the keys that the flags or the environment configure for a server
// at addr. Other machines reach only one that has some.
func (p *program) serverKeys(addr net.Addr) (*serverKeys, error) {
	keys, file, err := p.settings().ServerKeys()
	switch {
	case err != nil:
		return nil, usage("%s", plain(err))
	case len(keys) == 0 && !isLocal(addr):
		return nil, &failure{statusUsage, "no API key: other machines can reach " +
			addr.String() + ", so set " + envKey + ", " +
			"or name a file that has keys with --api-key-file", makeKey}
	}
	return &serverKeys{keys: keys, file: file, addr: addr}, nil
}

const makeKey = "`relukko key new` makes a key"

// complete makes a key for a server that has none, whose store is open. It is kept in
// the file path, so that it outlives the server. Afterwards clients can find it.
func (k *serverKeys) complete(p *program, path string) error {
	if len(k.keys) > 0 {
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

// announce logs what came of complete.
func (k *serverKeys) announce(log *serveLog) {
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

// reload has files reload the keys where they come from a file.
func (k *serverKeys) reload(backend *server.Server, files *reloader) {
	if k.file == "" {
		return
	}
	_ = files.add("API keys", func() error {
		keys, err := settings.ReadKeys(k.file)
		if err == nil {
			backend.SetAPIKeys(keys...)
			k.keys = keys
			k.warnShort(files.log)
		}
		return err
	}, k.file)
}
