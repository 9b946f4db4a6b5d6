package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A link to the page of a name, in a chat for example, finds who is signed in: the browser sends no
// cookie after a click on another site.
func TestALinkOnAnotherSite(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.lock(graceKey, "bench-3", "grace", time.Hour)
	chat := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<a href="%s/lock?name=bench-3">see bench-3</a>`, s.url)
	}))
	defer chat.Close()
	elsewhere := strings.Replace(chat.URL, "127.0.0.1", "localhost", 1)

	b := s.visitor(adaKey)
	b.base = elsewhere
	b.visit("/")
	b.await("document.links.length == 1 && (document.links[0].click(), true)")
	b.sees("h1", "bench-3")
	b.live()
	b.trouble()

	b = open(t, elsewhere)
	b.visit("/")
	b.await("document.links.length == 1 && (document.links[0].click(), true)")
	b.sees("button", "Sign in with the key")
	b.trouble()
}
