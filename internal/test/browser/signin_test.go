package browser

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := open(t, s.url)
	b.visit("/?q=arm") // which leads to the form, and back
	b.await("location.pathname == '/sign-in'")
	b.write("user", user)
	b.write("password", "guessed")
	b.press("Sign in")
	b.sees("[role=alert]", "not right")
	b.refused("403")

	b.write("user", user)
	b.write("password", password)
	b.press("Sign in")
	b.live()
	b.await("location.pathname + location.search == '/?q=arm'")
	b.sees(".user", "boss (admin)")
	require.Empty(t, value[string](b, "document.cookie"), "scripts see no cookie")

	b.press("Sign out")
	b.await("location.pathname == '/sign-in'")
	b.visit("/lock?name=robot-arm-1")
	b.await("location.pathname == '/sign-in'")
	b.write("key", adaKey)
	b.press("Sign in with the key")
	b.live()
	b.sees("h1", "robot-arm-1")
	b.sees(".user", "ada (user)")
}

func TestTheSessionEndsWithTheKey(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor(adaKey)
	s.server.SetKeys(keys()[1:]...)
	b.sees(".live", "Signed out")
	b.press("Sign in")
	b.await("location.pathname == '/sign-in'")
}

func TestTheRoleOfTheKeyChangesLive(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor(adaKey)
	b.sees(".user", "ada (user)")
	changed := keys()
	changed[0].Role = access.Viewer
	s.server.SetKeys(changed...)
	b.sees(".user", "ada (viewer)")
}

func TestTheLinkSignsInOnce(t *testing.T) {
	t.Parallel()
	s := serve(t)
	link := s.server.SignInLink()
	other := open(t, s.url)
	other.visit(link) // a preview of the link, which presses nothing
	other.sees("main", "works once")

	b := open(t, s.url)
	b.visit(link)
	b.press("Sign in")
	b.live()
	b.sees(".user", "boss (admin)")

	other.press("Sign in")
	other.sees("[role=alert]", "was used")
	other.refused("403")
}

func TestPublicViewReadsOnly(t *testing.T) {
	t.Parallel()
	s := serve(t, server.WithPage(server.Page{User: user, Password: password, PublicView: true}))
	s.hold(s.client(adaKey), "robot-arm-1", "ada")
	b := open(t, s.url)
	b.visit("/")
	b.live()
	b.sees(cell("robot-arm-1", "holder"), "ada")
	b.gone(cell("robot-arm-1", "actions"))
	b.click(cell("robot-arm-1", "name") + " a")
	b.sees(".actions", "sign in to do this")
	b.gone(".actions button:not([aria-disabled])")
	b.press("Sign in")
	b.await("location.pathname == '/sign-in'")
}
