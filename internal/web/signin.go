package web

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"gitlab.com/relukko/relukko-go/internal/guard"
)

// maxForm is the size, in bytes, of a form.
const maxForm = 16 << 10

// askToSignIn shows the form, unless the visitor is signed in: then it goes on.
func (p *Page) askToSignIn(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.URL.Query().Get("next"))
	if v, _ := p.visitor(r); v.client != nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	p.render(w, r, http.StatusOK, "sign-in.html", view{Next: next})
}

// signIn begins a session with the right password, or with a key.
func (p *Page) signIn(w http.ResponseWriter, r *http.Request) {
	if !p.parseForm(w, r) {
		return
	}
	next := localPath(r.PostForm.Get("next"))
	var client *guard.Client
	var err error
	if user := r.PostForm.Get("user"); user != "" {
		client, err = p.byPassword(user, r.PostForm.Get("password"), p.Origin(r))
	} else {
		client, err = p.Guard.Admit(strings.TrimSpace(r.PostForm.Get("key")), p.Origin(r))
	}
	if err == nil {
		p.begin(w, r, client, next)
		return
	}
	v := view{Next: next, Error: "The user and the password, or the key, are not right."}
	status := http.StatusForbidden
	if flood, ok := errors.AsType[*guard.FloodError](err); ok {
		v.Error, status = tooMany(w, flood), http.StatusTooManyRequests
	}
	p.render(w, r, status, "sign-in.html", v)
}

// tooMany sets Retry-After, and returns what to say.
func tooMany(w http.ResponseWriter, flood *guard.FloodError) string {
	after := flood.RetryAfter()
	w.Header().Set("Retry-After", after)
	return "Too many wrong passwords and keys came from " + flood.Address +
		". Try again in " + after + " s."
}

// byPassword returns the client of a user with the right password. The comparison takes as long for
// any.
func (p *Page) byPassword(user, password string, from guard.Origin) (*guard.Client, error) {
	givenUser, givenPassword := hashOf(user), hashOf(password)
	wantUser, wantPassword := hashOf(p.User), hashOf(p.Password)
	right := subtle.ConstantTimeCompare(givenUser[:], wantUser[:]) &
		subtle.ConstantTimeCompare(givenPassword[:], wantPassword[:])
	if p.User == "" || p.Password == "" || right == 0 {
		return p.Guard.AdmitGuess("", from)
	}
	return p.Guard.AdmitGuess(p.secret, from)
}

// begin begins a session in place of the one that the browser may have.
func (p *Page) begin(w http.ResponseWriter, r *http.Request, client *guard.Client, next string) {
	p.endSession(r)
	client.SignedIn()
	p.setCookie(w, r, p.sessions.add(client))
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (p *Page) endSession(r *http.Request) {
	for _, cookie := range r.CookiesNamed(p.cookieName(r)) {
		p.sessions.remove(cookie.Value)
	}
}

// showLink shows the button of a link for one use. What loads a page without being asked, such as
// a preview, does not use up the link.
func (p *Page) showLink(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("token")
	if !p.links.valid(token) {
		p.refuse(w, r, http.StatusForbidden, linkIsOver)
		return
	}
	p.render(w, r, http.StatusOK, "link.html", view{Token: token})
}

const linkIsOver = "This link was used, or its 5 minutes are over. Sign in with a key, or " +
	"restart the server for another link."

// useLink begins a session by a link.
func (p *Page) useLink(w http.ResponseWriter, r *http.Request) {
	if !p.parseForm(w, r) {
		return
	}
	secret := ""
	if p.links.use(r.PostForm.Get("token")) {
		secret = p.secret
	}
	client, err := p.Guard.Admit(secret, p.Origin(r))
	if err != nil {
		p.refuse(w, r, http.StatusForbidden, linkIsOver)
		return
	}
	p.begin(w, r, client, "/")
}

func (p *Page) signOut(w http.ResponseWriter, r *http.Request) {
	p.endSession(r)
	p.setCookie(w, r, "")
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}

// parseForm reads the form of a POST into r.PostForm. If it cannot, it has responded.
func (p *Page) parseForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		p.refuse(w, r, http.StatusBadRequest, "The form cannot be read.")
		return false
	}
	return true
}

// localPath returns a path to go on to: one of the two pages, never one of another site.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.Path != "/" && u.Path != "/lock" {
		return "/"
	}
	local := url.URL{Path: u.Path, RawQuery: u.RawQuery}
	return local.String()
}
