package web

import (
	"context"
	"log/slog"
	"net/http"

	"gitlab.com/relukko/relukko-go/internal/engine"
	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/server/access"
)

// Config sets up a Page.
type Config struct {
	User, Password string // sign in as an admin of that name; "": nobody does
	PublicView     bool   // everybody may read
}

// Backend is what a Page shows and changes.
type Backend struct {
	Engine  *engine.Engine
	Guard   *guard.Guard
	Log     *slog.Logger
	Origin  func(*http.Request) guard.Origin
	Proxied func(*http.Request) bool // the request comes from a trusted proxy
	Stopped context.Context          // ends when the shutdown begins
	Cut     context.Context          // ends when slow clients are not waited for any more
}

// Page is the page, an http.Handler for the paths in [Paths]. Make one with New, and call Start
// before it serves.
type Page struct {
	Config
	Backend
	key      access.Key // for signing in with the password or a link
	secret   string     // that key; nobody else has it
	sessions sessions
	links    links
	board    board
	cross    http.CrossOriginProtection
	mux      *http.ServeMux
}
