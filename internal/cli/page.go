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
	flags.StringVar(&f.web, "web", "", "whether there is a page for browsers: `on or off` "+
		"(default: on with "+envUser+", with --keys, with --public-view, "+
		"and where the server has made its key)")
	flags.BoolVar(&f.publicView, "public-view", false,
		"let everybody who reaches the server see all locks on the page without signing in")
}

// page returns the option for the page, if there is to be one.
func (p *program) page(f *pageFlags, keys *serverKeys) ([]server.Option, error) {
	page := server.Page{
		User: p.getenv(envUser), Password: p.getenv(envPassword), PublicView: f.publicView,
	}
	switch f.web {
	case "on":
	case "off":
		if f.publicView {
			return nil, usage("--public-view: there is no page with --web off")
		}
		return nil, nil
	case "":
		none := len(keys.keys)+len(keys.named) == 0 // so it makes one
		wanted := page.User != "" || keys.namedFile != "" || f.publicView
		if !wanted && !(none && keys.addr.Network() != "unix") {
			return nil, nil
		}
	default:
		return nil, usage("--web: %q is neither on nor off", f.web)
	}
	if (page.User == "") != (page.Password == "") {
		return nil, usage("%s and %s belong together: set both or none", envUser, envPassword)
	}
	if page.User != "" {
		if err := (&access.Key{Name: page.User}).Check(); err != nil {
			return nil, usage("%s: %v", envUser, err)
		}
	}
	return []server.Option{server.WithPage(page)}, nil
}
