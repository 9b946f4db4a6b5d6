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
}

// serverKeys returns the keys that the flags or the environment configure for a server
// at addr. Other machines reach only one that has some.
func (p *program) serverKeys(addr net.Addr) (*serverKeys, error) {
	keys, file, err := p.settings().ServerKeys()
	switch {
	case err != nil:
		return nil, usage("%s", plain(err))
	case len(keys) == 0 && !isLoopback(addr):
		return nil, &failure{statusUsage, "no API key: other machines can reach " +
			addr.String() + ", so set " + envKey + ", " +
			"or name a file that has keys with --api-key-file", makeKey}
	}
	return &serverKeys{keys, file, addr}, nil
}

const makeKey = "`relukko key new` makes a key"

// ready completes the keys of a server whose store is open: a key that it makes itself is
// kept in the file path, so that it outlives the server.
func (k *serverKeys) ready(p *program, path string, log *serveLog) error {
	if len(k.keys) > 0 {
		if k.file == "" { // else reload warns
			k.warnShort(log.Logger)
		}
		return nil
	}
	if path == "" {
		k.keys = []string{settings.NewKey()}
		log.madeKey(k.keys[0])
		return nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return failed("%s", plain(err))
	}
	key, err := settings.KeepKey(path)
	if errors.Is(err, settings.ErrKeyFile) {
		return &failure{statusFailed, plain(err), "Set " + envKey + ", or delete the file: " +
			"then a new key is made, and clients that have the old one are refused"}
	}
	k.keys = []string{key}
	if err != nil {
		log.Warn("the API key cannot be kept", "error", err)
		log.madeKey(key)
		return nil
	}
	published := false
	if isDefault(k.addr) {
		err := settings.PublishKey(p.getenv, key)
		if published = err == nil; err != nil {
			log.Warn("clients will not find the API key by themselves", "error", err)
		}
	}
	log.keptKey(path, published)
	return nil
}

// warnShort warns of keys that others may guess.
func (k *serverKeys) warnShort(log *slog.Logger) {
	if isLoopback(k.addr) {
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
