package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"gitlab.com/relukko/relukko-go/internal/httpapi"
	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/memstore"
)

// relukkoPlain is our client on a server that offers no more than the original
// one: none of our extensions.
var relukkoPlain = peer{
	name: "plain", label: "Relukko, memory, without the extensions", store: "memory",
	only: []string{"uncontended", "handoff", "pool", "idle"},
	start: func(*site) (service, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		r, err := newRelukkoService(self, rolePlain)
		if err == nil {
			r.plain = true
		}
		return r, err
	},
}

// servePlain serves until it is ended.
func servePlain() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Printf("relukko: listening on http://%s, without extensions\n", l.Addr())
	backend := server.New(memstore.New(), server.WithAPIKeys(os.Getenv(apiKeyEnv)),
		httpapi.LikeOriginal(httpapi.Original{}))
	return http.Serve(l, backend)
}
