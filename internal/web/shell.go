package web

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

//go:embed templates/*.html
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "templates/*.html"))

// view is what the templates show.
type view struct {
	Static     string // the URL under which static files are
	Page       string // table, lock, sign-in, link or error
	User, Role string // "" and viewer where nobody is signed in
	Name       string // of the lock
	Base       string // the base URL of the server, for commands
	Next       string // where to go on after signing in
	Token      string // of a link
	Error      string
	Password   bool // one can sign in with a user and a password
}

// signedIn shows a page to visitors that may read. The others go to the form first.
func (p *Page) signedIn(show func(http.ResponseWriter, *http.Request, view)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, ok := p.visitor(r)
		if !ok {
			p.goToSignIn(w, r)
			return
		}
		user, role := v.nameAndRole()
		show(w, r, view{User: user, Role: role})
	}
}

// goToSignIn has a browser go on to the form, which knows where it came from. After a click on
// another site the browser has sent no cookie, as that is SameSite=Strict. It sends it with what
// this page asks for, which a redirect would not be.
func (p *Page) goToSignIn(w http.ResponseWriter, r *http.Request) {
	form := "/sign-in?next=" + url.QueryEscape(r.URL.RequestURI())
	site := r.Header.Get("Sec-Fetch-Site") // "" where the page is not reached by TLS
	click := strings.Contains(r.Header.Get("Accept"), "text/html")
	if click && (site == "" || site == "cross-site") {
		w.Header().Set("Refresh", "0; url="+form)
		p.refuse(w, r, http.StatusUnauthorized, "You are not signed in.")
		return
	}
	http.Redirect(w, r, form, http.StatusSeeOther)
}

func (p *Page) table(w http.ResponseWriter, r *http.Request, v view) {
	p.render(w, r, http.StatusOK, "table.html", v)
}

func (p *Page) lock(w http.ResponseWriter, r *http.Request, v view) {
	if v.Name = r.URL.Query().Get("name"); v.Name == "" {
		p.refuse(w, r, http.StatusNotFound, "This page needs the name of a lock: /lock?name=NAME")
		return
	}
	p.render(w, r, http.StatusOK, "lock.html", v)
}

// refuse shows an error: to a script in JSON.
func (p *Page) refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	if strings.HasPrefix(r.URL.Path, "/page/") {
		writeError(w, status, text)
		return
	}
	p.render(w, r, status, "error.html", view{Error: text})
}

// render writes a page.
func (p *Page) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.Static, v.Page = staticPath(), strings.TrimSuffix(name, ".html")
	v.Base, v.Password = p.base(r), p.User != "" && p.Password != ""
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, v); err != nil {
		p.Log.Error("page", "template", name, "error", err)
		http.Error(w, "internal error: see the server's log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w) // fails only if the client is gone
}

// base returns the base URL of the server as the browser knows it.
func (p *Page) base(r *http.Request) string {
	if p.overTLS(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// reads is a handler of a script's request that only reads.
func (p *Page) reads(
	handle func(http.ResponseWriter, *http.Request, visitor),
) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, ok := p.visitor(r)
		if !ok {
			writeError(w, http.StatusUnauthorized, "You are not signed in.")
			return
		}
		handle(w, r, v)
	}
}
