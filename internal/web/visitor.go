package web

import (
	"net/http"
	"time"

	"gitlab.com/relukko/relukko-go/internal/guard"
	"gitlab.com/relukko/relukko-go/server/access"
)

// visitor is a browser that sends a request.
type visitor struct {
	client  *guard.Client // nil: not signed in
	session *session      // nil as well
}

// visitor returns the visitor of a request, and false for one that may not even read.
func (p *Page) visitor(r *http.Request) (visitor, bool) {
	for _, cookie := range r.CookiesNamed(p.cookieName(r)) {
		if s := p.sessions.find(cookie.Value); s != nil {
			return visitor{s.client.From(p.Origin(r)), s}, true
		}
	}
	return visitor{}, p.PublicView
}

// Client returns the client that is signed in, or nil.
func (p *Page) Client(r *http.Request) *guard.Client {
	v, _ := p.visitor(r)
	return v.client
}

// cookieName has the port in it: a browser sends the cookies of a host to all of its ports, where
// there may be other servers.
func (p *Page) cookieName(r *http.Request) string { return "relukko-" + p.port(r) }

// setCookie sets the cookie of a session, or with "" removes it.
func (p *Page) setCookie(w http.ResponseWriter, r *http.Request, cookie string) {
	age := int(sessionTime / time.Second)
	if cookie == "" {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{
		Name: p.cookieName(r), Value: cookie, Path: "/", MaxAge: age, HttpOnly: true,
		Secure: p.overTLS(r), SameSite: http.SameSiteStrictMode,
	})
}

// nameAndRole returns the name and the role of the visitor's key; "" and viewer where nobody is
// signed in.
func (v visitor) nameAndRole() (name, role string) {
	if v.client == nil {
		return "", access.Viewer.String()
	}
	key, _ := v.client.Key()
	if key == nil {
		return v.client.Name(), access.Viewer.String()
	}
	return key.Name, key.Role.String()
}

// watch returns channels that are closed when what the visitor may do may have changed, and when
// the visitor has signed out.
func (v visitor) watch() (replaced, ended <-chan struct{}) {
	if v.client == nil {
		return nil, nil
	}
	_, replaced = v.client.Key()
	return replaced, v.session.ended
}
