package browser

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

func TestBreak(t *testing.T) {
	t.Parallel()
	s := serve(t)
	held, release := s.hold(s.client(adaKey), "robot-arm-1", "ada@bench-7/16941 (new firmware)")
	s.wait(s.client(graceKey), "robot-arm-1", "grace")
	b := s.visitor("")
	b.sees(cell("robot-arm-1", "waiters"), "1")
	b.actions("robot-arm-1")
	b.press("Break…")
	b.sees("dialog", "Break the lock of robot-arm-1?")
	b.sees("dialog", "ada@bench-7/16941 from 127.0.0.1")
	b.sees("dialog", "new firmware")
	b.sees("dialog .facts", "Held for")
	b.sees("dialog", "stop their work")
	b.sees("dialog", "1 waiting: the first of them gets the lock")

	b.press("Break the lock") // without a reason, which the browser asks for
	require.True(t, of[bool](b, "[name=reason]", "validity.valueMissing"))
	require.NoError(t, held.Err())
	b.write("reason", "the bench is rebooted")
	b.press("Break the lock")
	b.gone("dialog")
	b.sees("[role=status]", "The lock of robot-arm-1 is broken.")
	b.sees(cell("robot-arm-1", "holder"), "grace")

	<-held.Done()
	var lost *relukko.LostError
	require.ErrorAs(t, context.Cause(held), &lost)
	require.Error(t, release())
	history, err := s.client(adaKey).History(t.Context(), api.HistoryQuery{Name: "robot-arm-1"})
	require.NoError(t, err)
	require.Equal(t, "broken", history[0].How)
	require.Equal(t, "boss", history[0].By)
	require.Equal(t, "the bench is rebooted", history[0].Reason)
}

func TestBreakNeverHitsTheNextHolder(t *testing.T) {
	t.Parallel()
	s := serve(t)
	lock := s.lock(adaKey, "robot-arm-1", "ada", time.Hour)
	b := s.visitor("")
	b.actions("robot-arm-1")
	b.press("Break…")
	b.write("reason", "it is mine")
	_, err := s.client(adaKey).Delete(t.Context(), lock.ID)
	require.NoError(t, err)
	next := s.lock(graceKey, "robot-arm-1", "grace", time.Hour)
	b.sees("dialog [role=alert]", "This lock has ended meanwhile.")
	require.True(t, of[bool](b, "dialog [type=submit]", "disabled"))

	// A request that was on its way has the id of the lock that was seen.
	status := value[int](b, `fetch("/page/break", {
		method: "POST", headers: {"Content-Type": "application/json"},
		body: JSON.stringify({name: "robot-arm-1", id: "`+lock.ID+`", reason: "it is mine"}),
	}).then((r) => r.status)`)
	require.Equal(t, 404, status)
	b.refused("404")
	still, err := s.client(adaKey).Find(t.Context(), "robot-arm-1")
	require.NoError(t, err)
	require.Equal(t, next.ID, still.ID)
}

func TestReserveExtendRelease(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor(adaKey)
	b.press("Reserve…")
	b.write("name", "bench-3")
	b.write("reason", "calibration")
	b.press("+2h")
	b.sees("dialog code", "hold --url "+s.url+" --for 2h --reason calibration bench-3")
	b.press("Reserve")
	b.gone("dialog")
	b.sees("[role=status]", "bench-3 is reserved until")
	b.sees(cell("bench-3", "state"), "reserved")
	b.sees(cell("bench-3", "name"), "mine")
	b.sees(cell("bench-3", "holder"), "ada")
	b.sees(cell("bench-3", "reason"), "calibration")
	b.reads(cell("bench-3", "remaining"), "^(2h|1h 59m)$")

	lock, err := s.client(adaKey).Find(t.Context(), "bench-3")
	require.NoError(t, err)
	b.actions("bench-3")
	b.press("Extend…")
	b.press("+8h") // more than it has
	b.sees("dialog code", "extend --url "+s.url+" "+lock.ID+" --for ")
	require.Regexp(t, "--for (10h|9h59m)$", of[string](b, "code", "innerText"))
	b.press("Extend")
	b.gone("dialog")
	b.reads(cell("bench-3", "remaining"), "^(10h|9h 59m)$")

	b.actions("bench-3")
	b.press("Release…")
	b.sees("dialog code", "release --url "+s.url+" "+lock.ID)
	b.press("Release")
	b.gone(row("bench-3"))
}

func TestOutOfServiceAndBack(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor(adaKey)
	b.visit("/lock?name=bench-3")
	b.press("Take out of service…")
	b.write("reason", "broken, ask Ada")
	b.sees("dialog code", "--for 0 --reason 'broken, ask Ada' bench-3")
	b.press("Take out of service")
	b.gone("dialog")
	b.sees(".now", "out of service")
	b.sees(".facts", "until released")

	other := s.visitor("")
	other.sees(cell("bench-3", "state"), "out of service")
	other.sees(cell("bench-3", "remaining"), "until released")
	other.sees(cell("bench-3", "reason"), "broken, ask Ada")

	b.press("Put back in service…")
	b.press("Put back in service")
	b.sees(".now", "free")
	other.gone(row("bench-3"))
}

// greyed returns the reason that stands beside a greyed action.
func (b *tab) greyed(action string) string {
	b.t.Helper()
	find := `[...document.querySelectorAll('.actions li')].find(e =>
		e.innerText.includes('` + action + `') && e.querySelector('[aria-disabled=true]'))`
	b.await(find)
	return value[string](b, find+`.querySelector('.why').innerText`)
}

func TestWhatIsNotAllowedIsGreyedWithTheReason(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.hold(s.client(adaKey), "robot-arm-1", "ada@bench-7/1")
	s.lock(graceKey, "bench-3", "grace", time.Hour)

	ada := s.visitor(adaKey)
	ada.actions("robot-arm-1")
	require.Contains(t, ada.greyed("Extend"), "its holder renews it")
	require.Contains(t, ada.greyed("Release"), "a program holds it")
	require.Contains(t, ada.greyed("Reserve"), "held by ada@bench-7/1")
	ada.press("Extend…")
	require.Equal(t, "robot-arm-1", of[string](ada, "dialog h2", "innerText"), "nothing happens")
	ada.press("Close")
	ada.actions("bench-3")
	require.Contains(t, ada.greyed("Break"), "needs the role admin")
	ada.press("Close")

	reader := s.visitor(readerKey)
	reader.actions("bench-3")
	for _, action := range []string{"Break", "Extend", "Reserve", "Take out"} {
		require.Contains(t, reader.greyed(action), "may only read", action)
	}
}

func TestTheServersRefusalIsShown(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b := s.visitor(adaKey)
	b.press("Reserve…")
	b.write("name", "bench-3")
	s.lock(graceKey, "bench-3", "grace@lab-2/9", time.Hour)
	b.press("Reserve")
	b.sees("dialog [role=alert]", `"bench-3" is held by grace@lab-2/9`)
	b.refused("409")
}

// TestCommandLinesAreOneWordForTheShell has a shell take apart what the page quotes.
func TestCommandLinesAreOneWordForTheShell(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("bash is not installed")
	}
	require.NoError(t, err)
	s := serve(t)
	b := s.visitor("")
	for _, text := range []string{
		"bench-3", "licence/1", "a b", "it's", "$(touch /tmp/pwned)", "`id`", `back\slash`, "-rf",
		"#", "~", "a\nb; id", "\x1b[2J", "snow ☃", "right\u202eleft", "'; id; '", "!!", "*",
		"{a,b}", "", "mixed ' \\ \t \u200b", "=cmd", "a=b",
	} {
		quoted := value[string](b,
			"import('"+static(b)+"/format.js').then((m) => m.quote("+js(text)+"))")
		out, err := exec.Command(bash, "-c", "printf '<%s>' "+quoted).Output()
		require.NoError(t, err, quoted)
		require.Equal(t, "<"+text+">", string(out), quoted)
		require.False(t, strings.ContainsAny(quoted, "\n\x1b\u202e\u200b"), quoted)
	}
}

func TestTheCommandLineIsCopied(t *testing.T) {
	t.Parallel()
	s := serve(t)
	lock := s.lock(adaKey, "bench-3", "ada", time.Hour)
	b := s.visitor(adaKey)
	b.actions("bench-3")
	b.press("Release…")
	want := "relukko release --url " + s.url + " " + lock.ID
	b.do("watch the clipboard", evaluate(`
		Object.defineProperty(navigator, "clipboard", {configurable: true, value: {
			writeText: async (text) => { window.copied = text; },
		}});`))
	b.press("Copy")
	b.sees("dialog .command", "Copied")
	require.Equal(t, want, value[string](b, "copied"))

	// Over plain HTTP from another machine a browser has no clipboard, but it can copy what is
	// selected.
	b.do("take it away", evaluate(`
		Object.defineProperty(navigator, "clipboard", {value: undefined});
		addEventListener("copy", () => { window.selected = getSelection().toString(); });`))
	b.sees("dialog .command button", "Copy")
	b.click("dialog .command button")
	b.await("window.selected")
	require.Equal(t, want, value[string](b, "selected"))
}

func static(b *tab) string {
	return of[string](b, "script", "src.replace('/app.js', '')")
}
