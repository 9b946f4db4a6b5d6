package browser

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/overlap"
)

var (
	pictures = flag.String("pictures", "", "`directory` for pictures of the page")
	limits   = flag.Bool("limits", false, "fail where 5,000 locks take longer than a page should")
	allSizes = flag.Bool("all-sizes", false, "with -pictures, make them in all sizes and colors")
)

// One browser serves all tests. Each has a profile of its own in it.
var (
	endBrowser = func() {}
	launched   = sync.OnceValues(launch)
)

var errNoBrowser = errors.New("there is no Chromium: apt-get install chromium")

func launch() (context.Context, error) {
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		return nil, errNoBrowser
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.Flag("font-render-hinting", "none"),
		// As is the default of chromedp, and without a process in reserve for each tab.
		chromedp.Flag("disable-features",
			"Translate,BlinkGenPropertyTrees,SpareRendererForSitePerProcess"),
		chromedp.Flag("host-resolver-rules", "MAP rebound.example 127.0.0.1"),
		chromedp.Env("TZ=Europe/Berlin"),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium has none for root
	}
	process, endProcess := chromedp.NewExecAllocator(context.Background(), options...)
	browser, end := chromedp.NewContext(process)
	endBrowser = func() {
		_ = chromedp.Cancel(browser)
		end()
		endProcess()
	}
	return browser, chromedp.Do(browser)
}

type withBrowser struct{ *testing.M }

func (m withBrowser) Run() int {
	defer func() { endBrowser() }()
	return m.M.Run()
}

func TestMain(m *testing.M) {
	overlap.Tests("4")
	goleak.VerifyTestMain(withBrowser{m})
}
