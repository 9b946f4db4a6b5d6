package cli

import (
	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/server"
	"gitlab.com/relukko/relukko-go/server/access"
)

// Who signs in on the page with a password, as with the original backend.
const (
	envUser     = "RELUKKO_USER"
	envPassword = "RELUKKO_PASSWORD"
)

// pageFlags are those of relukko serve that are about the page.
type pageFlags struct {
	web        string // on, off or "": as the keys suggest
	publicView bool
}

func (f *pageFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.web, "web", "", "whether there is a page for browsers: `on|off` "+
		"(default: on with "+envUser+", --keys or --public-view, "+
		"and where the server has made its key)")
	flags.BoolVar(&f.publicView, "public-view", false,
		"let everybody who reaches the server see all locks on the page without signing in")
}

// addPage adds the option for the page to those of a server with these keys, if it is to have one.
func (p *program) addPage(
	options []server.Option, f *pageFlags, keys *serverKeys,
) ([]server.Option, error) {
	user, password := p.getenv(envUser), p.getenv(envPassword)
	switch f.web {
	case "on":
	case "":
		signsIn := user != "" || keys.namedFile != "" || keys.none() && reachesBrowsers(keys.addr)
		if !signsIn && !f.publicView {
			return options, nil
		}
	case "off":
		if f.publicView {
			return nil, usage("--public-view: there is no page with --web off")
		}
		return options, nil
	default:
		return nil, usage("--web: %q is neither on nor off", f.web)
	}
	if (user == "") != (password == "") {
		return nil, usage("%s and %s belong together: set both or none", envUser, envPassword)
	}
	if user != "" {
		if err := (&access.Key{Name: user}).Check(); err != nil {
			return nil, usage("%s: %v", envUser, err)
		}
	}
	page := server.Page{User: user, Password: password, PublicView: f.publicView}
	return append(options, server.WithPage(page)), nil
}
