package browser

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server"
)

func TestALockComesAndGoesLive(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor("")
	b.sees("main", "Nobody has a lock.")
	ada := s.client(adaKey)
	_, release := s.hold(ada, "robot-arm-1", "ada@bench-7/16941 (a new firmware)")
	b.sees(cell("robot-arm-1", "state"), "held")
	b.sees(cell("robot-arm-1", "holder"), "ada@bench-7/16941")
	b.sees(cell("robot-arm-1", "reason"), "a new firmware")
	b.sees(cell("robot-arm-1", "remaining"), "renewed")
	s.wait(s.client(graceKey), "robot-arm-1", "grace")
	b.sees(cell("robot-arm-1", "waiters"), "1")
	require.NoError(t, release())
	b.sees(cell("robot-arm-1", "holder"), "grace")

	s.lock(adaKey, "bench-3", "ada (calibration)", time.Hour)
	b.sees(cell("bench-3", "state"), "reserved")
	lock := s.lock(adaKey, "bench-4", "ada", 2*time.Second)
	b.sees(cell("bench-4", "state"), "expired")
	b.sees(cell("bench-4", "remaining"), "ago")
	_, err := ada.Delete(t.Context(), lock.ID)
	require.NoError(t, err)
	b.gone(row("bench-4"))
}

func TestTimesGoOnAndTheExactOneIsThere(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.lock(adaKey, "bench-3", "ada", time.Hour)
	b := s.visitor("")
	time := cell("bench-3", "since") + " time"
	b.sees(time, "3s")
	b.sees(time, "4s")
	zone := value[string](b, "Intl.DateTimeFormat().resolvedOptions().timeZone")
	require.Equal(t, "Europe/Berlin", zone)
	require.Regexp(t, `\d{4}.*\d\d:\d\d:\d\d.* (CET|CEST|GMT\+[12])`,
		of[string](b, time, "title"))
}

func TestThePageReconnectsAfterARestart(t *testing.T) {
	t.Parallel()
	public := server.WithPage(server.Page{User: user, Password: password, PublicView: true})
	s := serve(t, public)
	s.lock(adaKey, "bench-3", "ada", time.Hour)
	b := open(t, s.url)
	b.visit("/")
	b.live()
	signedIn := s.visitor("")
	signedIn.sees(row("bench-3"), "ada")
	private := serve(t)
	strict := private.visitor("")

	s.stop()
	private.stop()
	for _, tab := range []*tab{b, signedIn, strict} {
		tab.sees(".live", "Reconnecting…")
	}
	b.sees(".live", "as of")
	b.sees(row("bench-3"), "ada") // what was known stays
	s.start()
	private.start()
	s.lock(adaKey, "bench-4", "grace", time.Hour)
	b.live()
	b.sees(row("bench-4"), "grace")
	signedIn.live()
	signedIn.sees(".user", "Sign in") // the session ended: the page says so
	strict.sees(".live", "Signed out")
	for _, tab := range []*tab{b, signedIn, strict} {
		tab.trouble() // the browser reports attempts that failed
	}
}

func TestADeadNetworkIsNoticed(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor("")
	s.network.SetDark(true) // nothing closes, and nothing comes
	b.patience = time.Minute
	b.sees(".live", "Reconnecting…")
	s.network.SetDark(false)
	b.live()
	b.trouble()
}

// names returns the names in the table, in order.
func (b *tab) names() []string {
	b.t.Helper()
	return each[string](b, "tr[data-name]", "dataset.name")
}

func TestFilterMineAndSort(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.lock(adaKey, "bench-10", "ada (the arm is loose)", 3*time.Hour)
	s.lock(graceKey, "bench-2", "grace", 2*time.Hour)
	s.lock(graceKey, "robot-arm-1", "grace (nightly)", time.Hour)
	b := s.visitor(adaKey)
	b.await("document.querySelectorAll('tr[data-name]').length == 3")
	require.Equal(t, []string{"bench-2", "bench-10", "robot-arm-1"}, b.names())

	b.enter("input[type=search]", "ARM grace")
	b.sees(".count", "1 of 3 locks")
	require.Equal(t, []string{"robot-arm-1"}, b.names())
	require.Equal(t, "?q=ARM+grace", value[string](b, "location.search"))
	b.do("reload", chromedp.Reload()) // the filter stays
	b.live()
	b.sees(".count", "1 of 3 locks")
	b.visit("/?q=bench-77")
	b.sees("main", "No lock matches.")
	b.press("The page of “bench-77”")
	b.sees(".now", "free")

	b.visit("/?mine")
	b.sees(".count", "1 of 3 locks")
	require.Equal(t, []string{"bench-10"}, b.names())
	b.click("input[type=checkbox]")
	b.sees(".count", "3 locks")

	b.press("Remaining")
	b.await("document.querySelector('thead .c-remaining').ariaSort == 'ascending'")
	require.Equal(t, []string{"robot-arm-1", "bench-2", "bench-10"}, b.names())
	b.press("Remaining")
	b.await("document.querySelector('thead .c-remaining').ariaSort == 'descending'")
	require.Equal(t, []string{"bench-10", "bench-2", "robot-arm-1"}, b.names())
	require.Equal(t, "?sort=-remaining", value[string](b, "location.search"))
}

func TestThePageOfAName(t *testing.T) {
	t.Parallel()
	s := stage(t)
	b := s.visitor("")
	b.visit("/lock?name=robot-arm-1")
	b.live()
	b.sees(".now", "held")
	b.sees(".facts", "ada@bench-7/16941")
	b.await("document.querySelectorAll('[aria-labelledby=queue] tbody tr').length == 2")
	require.Equal(t, []string{"grace@lab-2/552", "lin@bench-2/811 (nightly)"},
		each[string](b, "[aria-labelledby=queue] tbody th", "innerText"),
		"in the order in which they are served")
	b.sees("[aria-labelledby=queue] tbody tr", "3") // its priority
	b.await("document.querySelector('.chart canvas')?.width > 100")
	b.await("document.querySelectorAll('details tbody tr').length == 30")
	require.Regexp(t, `^Held for \d+ % of the last 30 days`,
		of[string](b, ".chart", "ariaLabel"))
	b.sees("[aria-labelledby=busy] caption", "tenures")
	b.await("document.querySelectorAll('[aria-labelledby=history] tbody tr').length == 50")
	b.sees("[aria-labelledby=history]", "the bench is rebooted")

	// It is live too: another waiter, and a new holder.
	s.wait(s.client(graceKey), "robot-arm-1", "cleo")
	b.sees("[aria-labelledby=queue]", "cleo")
	asked := value[[]float64](b, `performance.getEntriesByType("resource").filter(
		(e) => e.name.includes("/page/lock")).map((e) => e.startTime)`)
	last := len(asked) - 1
	require.Less(t, asked[last]-asked[last-1], 9000.0, "sooner than each 10 s")
	lock, err := s.client(adaKey).Find(t.Context(), "robot-arm-1")
	require.NoError(t, err)
	require.Contains(t, lock.Creator, "ada")
}

func TestAFreeNameHasAPage(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor(adaKey)
	b.visit("/lock?name=bench-9")
	b.sees(".now", "free")
	b.sees("main", "Nobody waits.")
	_, release := s.hold(s.client(adaKey), "bench-9", "ada")
	b.sees(".now", "held")
	require.NoError(t, release())
	b.sees(".now", "free")
	b.sees("[aria-labelledby=history]", "released")
}
