package browser

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// mustHaveNames are roles of what a screen reader must be able to name.
var mustHaveNames = []string{"button", "link", "textbox", "searchbox", "checkbox", "dialog", "img"}

func (b *tab) keys(keys string, options ...chromedp.KeyOption) {
	b.t.Helper()
	b.do("keys", chromedp.KeyEvent(keys, options...))
}

// focused returns what has the focus: its label, or its text.
func (b *tab) focused() string {
	b.t.Helper()
	return value[string](b, `((e) => e.ariaLabel || e.placeholder || e.name || e.innerText)(
		document.activeElement)`)
}

func TestEverythingWorksWithTheKeyboard(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.lock(graceKey, "bench-3", "grace", time.Hour)
	s.lock(graceKey, "robot-arm-1", "grace", time.Hour)
	b := s.visitor("")
	b.sees(row("robot-arm-1"), "grace")
	// A keyboard sends no character after a key whose default was prevented; chromedp does.
	b.do("press /", evaluate(`document.body.dispatchEvent(
		new KeyboardEvent("keydown", {key: "/", bubbles: true}))`))
	b.await("document.activeElement.type == 'search'")
	b.keys("arm")
	b.gone(row("bench-3"))
	for range 20 {
		if b.keys(kb.Tab); b.focused() == "Actions for robot-arm-1" {
			break
		}
	}
	require.Equal(t, "Actions for robot-arm-1", b.focused())
	outlined := value[string](b, "getComputedStyle(document.activeElement).outlineStyle")
	require.Equal(t, "solid", outlined, "the focus is visible")
	b.keys(kb.Enter)
	b.sees("dialog", "robot-arm-1")
	b.keys(kb.Escape)
	b.gone("dialog")

	for _, button := range []string{"Close", "Break…"} {
		require.Equal(t, "Actions for robot-arm-1", b.focused(), "the focus comes back")
		b.keys(kb.Enter)
		b.sees("dialog", button)
		for b.focused() != button {
			b.keys(kb.Tab)
		}
		b.keys(kb.Enter)
		b.await("document.querySelector('dialog')?.innerText.includes('Close') !== true")
	}
	b.sees("dialog h2", "Break the lock of robot-arm-1?")
	require.Equal(t, "reason", b.focused())
	b.keys("rebooted")
	b.keys(kb.Enter)
	b.sees("[role=status]", "The lock of robot-arm-1 is broken.")
}

// TestAScreenReaderReadsATable looks at the page as assistive technology does.
func TestAScreenReaderReadsATable(t *testing.T) {
	t.Parallel()
	s := stage(t)
	b := s.visitor("")
	for _, width := range []int64{1280, 360} {
		b.size(width, 720, "light")
		b.sees(row("staging"), "runner-1")
		tree := b.tree()
		require.Contains(t, tree, "table Locks", width)
		for _, column := range []string{
			"Name", "State", "Holder", "Reason", "Held for", "Remaining", "Waiters", "Actions",
		} {
			require.Contains(t, tree, "columnheader "+column, width)
		}
		require.Contains(t, tree, "rowheader bench-10", width)
		require.Contains(t, tree, "button Actions for bench-10", width)
		require.Contains(t, tree, "searchbox Filter", width)
		require.Contains(t, tree, "checkbox Mine", width)
		for _, node := range tree {
			require.NotContains(t, mustHaveNames, strings.TrimSpace(node), "one without a name")
		}
	}
	b.size(1280, 720, "light")
	require.Equal(t, "12", of[string](b, ".locks", "ariaRowCount"))
	b.actions("robot-arm-1")
	require.Contains(t, b.tree(), "dialog robot-arm-1")
	b.press("Break…")
	b.sees("dialog", "stop their work")
	require.Contains(t, b.tree(), "textbox Reason")
	b.visit("/lock?name=robot-arm-1")
	b.await("document.querySelector('.chart canvas')")
	require.Contains(t, strings.Join(b.tree(), "\n"), "Held for")
}

// tree returns the roles and names of the accessibility tree.
func (b *tab) tree() []string {
	b.t.Helper()
	tree := command(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	var all []string
	for _, node := range tree.Nodes {
		if !node.Ignored && node.Role != nil {
			name := ""
			if node.Name != nil {
				name = strings.Trim(node.Name.Value.String(), `"`)
			}
			role := strings.Trim(node.Role.Value.String(), `"`)
			all = append(all, role+" "+name)
		}
	}
	return all
}

// contrasts returns the texts whose contrast is below what WCAG 2 asks of level AA, 4.5 to 1.
const contrasts = `(() => {
	const rgb = (text) => text.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= .04045 ? c / 12.92 :
		((c + .055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
	const ground = (e) => {
		for (; e; e = e.parentElement) {
			const c = rgb(getComputedStyle(e).backgroundColor);
			if (c.length < 4 || c[3] > 0) return c;
		}
		return [255, 255, 255];
	};
	const scope = document.querySelector("dialog[open]") ?? document.body;
	return [...scope.querySelectorAll("*")].filter((e) => e.checkVisibility() &&
		[...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).flatMap((e) => {
			const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
			const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
			return ratio < 4.5 ? [e.innerText + " " + ratio.toFixed(1)] : [];
		});
})()`

func TestDarkAndLight(t *testing.T) {
	t.Parallel()
	s := stage(t)
	b := s.visitor("")
	grounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		b.size(1280, 720, scheme)
		b.visit("/")
		b.sees(row("staging"), "runner-1")
		require.Empty(t, value[[]string](b, contrasts), scheme)
		grounds[scheme] = value[string](b, "getComputedStyle(document.body).backgroundColor")
		b.actions("robot-arm-1")
		require.Empty(t, value[[]string](b, contrasts), scheme)
		b.press("Break…")
		b.sees("dialog", "stop their work")
		require.Empty(t, value[[]string](b, contrasts), scheme)
		b.visit("/lock?name=robot-arm-1")
		b.await("document.querySelectorAll('[aria-labelledby=history] tbody tr').length == 50")
		require.Empty(t, value[[]string](b, contrasts), scheme)
	}
	require.NotEqual(t, grounds["light"], grounds["dark"])
	// The chart is drawn anew with the colors of the other scheme.
	drawn := "document.querySelector('canvas').toDataURL()"
	b.await("document.querySelector('.chart canvas')")
	dark := value[string](b, drawn)
	b.size(1280, 720, "light")
	b.await(drawn + " != " + js(dark))
}

// TestNothingIsCutOff has no page scroll sideways, from the narrowest to the widest screen.
func TestNothingIsCutOff(t *testing.T) {
	t.Parallel()
	s := stage(t)
	s.lock(adaKey, "a-name-that-is-"+strings.Repeat("very-", 40)+"long",
		strings.Repeat("w", 300)+" ("+strings.Repeat("why ", 100)+")", time.Hour)
	b := s.visitor("")
	guest := open(t, s.url)
	fits := func(b *tab, what string, width int64) {
		t.Helper()
		wide := value[int64](b, "document.documentElement.scrollWidth")
		require.LessOrEqual(t, wide, width, "%s at %d", what, width)
	}
	for _, width := range []int64{360, 600, 900, 1280, 2560} {
		b.size(width, 800, "light")
		b.visit("/")
		b.sees(row("staging"), "runner-1")
		fits(b, "the table", width)
		heights := each[float64](b, "tr[data-name]", "getBoundingClientRect().height")
		name := of[float64](b, row("staging")+" .c-name", "getBoundingClientRect().width")
		require.Greater(t, name, 90.0, "at %d", width)
		require.InDelta(t, slices.Min(heights), slices.Max(heights), 0.1, "at %d", width)
		b.actions("robot-arm-1")
		b.press("Break…")
		b.sees("dialog", "stop their work")
		fits(b, "a dialog", width)
		require.LessOrEqual(t, of[int64](b, "dialog", "scrollWidth"), width)
		b.visit("/lock?name=robot-arm-1")
		b.await("document.querySelector('.chart canvas')")
		fits(b, "the page of a name", width)
		b.visit("/?wall")
		b.sees(row("staging"), "runner-1")
		fits(b, "the wall", width)
		guest.size(width, 800, "light")
		guest.visit("/")
		guest.sees("main", "Sign in")
		fits(guest, "the form", width)
	}
}

func TestTheWallHasLargeTypeAndNoActions(t *testing.T) {
	t.Parallel()
	s := stage(t)
	b := s.visitor("")
	b.size(2560, 1080, "dark")
	b.visit("/?wall&q=out+of")
	b.sees(row("bench-10"), "out of service")
	b.gone(row("robot-arm-1"))
	require.Empty(t, each[string](b, "td button, .tools, form", "outerHTML"))
	b.await("parseFloat(getComputedStyle(document.querySelector('td')).fontSize) >= 32")
}
