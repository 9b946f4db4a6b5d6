// Package web serves the page: who has which lock, live, in a browser. It uses the engine as the
// other front ends do. A visitor that signs in is a client of package guard, so the page can do
// what that client's key may, and no more.
package web

import (
	"net/http"
	"time"

	"gitlab.com/relukko/relukko-go/server/access"
	"gitlab.com/relukko/relukko-go/server/store"
)

// Paths are the patterns of what the page serves.
var Paths = []string{
	"/{$}", "/lock", "/sign-in", "/sign-in/link", "/sign-out", "/page/", "/static/",
}

// New returns a page that does not serve yet.
func New(c Config) *Page {
	p := &Page{Config: c, secret: newToken(), mux: http.NewServeMux()}
	name := c.User
	if name == "" {
		name = access.DefaultName
	}
	p.key = access.Key{Name: name, Role: access.Admin, Hash: hashOf(p.secret)}
	p.board.init()
	p.mux.HandleFunc("GET /{$}", p.signedIn(p.table))
	p.mux.HandleFunc("GET /lock", p.signedIn(p.lock))
	p.mux.HandleFunc("GET /sign-in", p.askToSignIn)
	p.mux.HandleFunc("POST /sign-in", p.signIn)
	p.mux.HandleFunc("GET /sign-in/link", p.showLink)
	p.mux.HandleFunc("POST /sign-in/link", p.useLink)
	p.mux.HandleFunc("POST /sign-out", p.signOut)
	p.mux.HandleFunc("GET /static/", serveStatic)
	p.mux.HandleFunc("GET /page/live", p.live)
	p.mux.HandleFunc("GET /page/lock", p.reads(p.details))
	for name, act := range actions {
		p.mux.HandleFunc("POST /page/"+name, p.changes(act))
	}
	return p
}

// Key returns the key for signing in with the password or a link. It must be one of the guard's.
func (p *Page) Key() access.Key { return p.key }

// Start connects the page to what it shows.
func (p *Page) Start(b Backend) { p.Backend = b }

// Run follows the locks while any page is open, until Stopped ends.
func (p *Page) Run() { p.follow(p.Stopped) }

// Publish tells the page of an event. It does not block.
func (p *Page) Publish(e store.Event) { p.board.publish(e) }

// Link returns the path of a page for signing in once, within [linkTime].
func (p *Page) Link() string { return "/sign-in/link?token=" + p.links.add(time.Now()) }

// ServeHTTP implements http.Handler.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	if !p.isOwnHost(r) {
		p.refuse(w, r, http.StatusForbidden, "On this machine the server has the name localhost, "+
			"not "+r.Host+". If a proxy passes that on, see relukko serve --trusted-proxy.")
		return
	}
	if err := p.cross.Check(r); err != nil {
		p.refuse(w, r, http.StatusForbidden,
			"This request comes from a page of another site, so it was refused.")
		return
	}
	p.mux.ServeHTTP(w, r)
}
