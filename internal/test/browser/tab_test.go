package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what the page must show.
const patience = 15 * time.Second

// A tab is a tab of the browser, with cookies of its own.
type tab struct {
	t        *testing.T
	ctx      context.Context
	base     string
	patience time.Duration

	mu       sync.Mutex
	problems []string // errors that the page's scripts made, and what the browser refused
}

// open returns a tab for the pages of a server. The test fails if a script of them does.
func open(t *testing.T, base string) *tab {
	t.Helper()
	browser, err := launched()
	if errors.Is(err, errNoBrowser) && os.Getenv("RELUKKO_REQUIRE_BROWSER") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx, base: base, patience: patience}
	require.NoError(t, chromedp.Listen(ctx, b.heard)) // opens the tab
	command(b, log.Enable, cdp.Empty{})
	command(b, runtime.Enable, cdp.Empty{})
	command(b, emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: "en-GB"})
	b.size(1280, 720, "light")
	t.Cleanup(func() { require.Empty(t, b.trouble(), "errors in the browser") })
	return b
}

func (b *tab) heard(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		d := e.ExceptionDetails
		b.problems = append(b.problems, fmt.Sprintf("%s %+v", d.Text, d.Exception))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			b.problems = append(b.problems, fmt.Sprint("console.error: ", e.Args))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			b.problems = append(b.problems, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// trouble returns the errors since the last call.
func (b *tab) trouble() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	problems := b.problems
	b.problems = nil
	return problems
}

// refused expects that the browser has reported a refusal of the server, and nothing else.
func (b *tab) refused(status string) {
	b.t.Helper()
	problems := b.trouble()
	require.Len(b.t, problems, 1)
	require.Contains(b.t, problems[0], status)
}

// do carries out actions, each of which waits for the elements that it needs.
func (b *tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, b.patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, b.text())
	}
}

// command sends a command of the DevTools protocol.
func command[P, R any](b *tab, c cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, b.patience)
	defer cancel()
	result, err := chromedp.Call(ctx, c, params)
	require.NoError(b.t, err, c.Method)
	return result
}

// text returns what the page shows, for a message.
func (b *tab) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, b.patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](
		"location.href + '\\n' + document.body.innerText"))
	return fmt.Sprintln(text, err) + strings.Join(b.trouble(), "\n")
}

func (b *tab) visit(path string) {
	b.t.Helper()
	b.do("visit "+path, chromedp.Navigate(b.base+path))
}

// await waits until a condition in JavaScript is true.
func (b *tab) await(condition string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, b.patience)
	defer cancel()
	look := chromedp.Evaluate[bool](`new Promise((done) => {
		const look = () => (`+condition+`) ? done(true) : setTimeout(look, 15);
		look();
	})`, chromedp.EvalAwaitPromise)
	for {
		_, err := chromedp.Run(ctx, look)
		if err == nil {
			return
		}
		// A page that is replaced meanwhile takes the promise with it.
		if ctx.Err() != nil || !strings.Contains(err.Error(), "navigated") &&
			!strings.Contains(err.Error(), "context") {
			b.t.Fatalf("await %s: %v\n%s", condition, err, b.text())
		}
	}
}

// sees waits until an element that matches has a text among its own.
func (b *tab) sees(selector, text string) {
	b.t.Helper()
	b.await(fmt.Sprintf("[...document.querySelectorAll(%q)].some(e => e.innerText.includes(%q))",
		selector, text))
}

// reads waits until the text of an element matches a regular expression.
func (b *tab) reads(selector, pattern string) {
	b.t.Helper()
	b.await(fmt.Sprintf("RegExp(%s).test(document.querySelector(%q)?.innerText)",
		js(pattern), selector))
}

// enter types a text into an element.
func (b *tab) enter(selector, text string) {
	b.t.Helper()
	b.do("type "+text, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// gone waits until no element matches.
func (b *tab) gone(selector string) {
	b.t.Helper()
	b.await(fmt.Sprintf("!document.querySelector(%q)", selector))
}

// value returns the value of an expression in JavaScript, which may be a promise.
func value[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, b.patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err, expression)
	return v
}

// of returns a property of the first element that matches.
func of[T any](b *tab, selector, property string) T {
	b.t.Helper()
	return value[T](b, fmt.Sprintf("document.querySelector(%q).%s", selector, property))
}

// each returns a property of all elements that match.
func each[T any](b *tab, selector, property string) []T {
	b.t.Helper()
	return value[[]T](b, fmt.Sprintf("[...document.querySelectorAll(%q)].map((e) => e.%s)",
		selector, property))
}

// press clicks the button or link with that text, in the open dialog if there is one.
func (b *tab) press(text string) {
	b.t.Helper()
	within := ""
	if value[bool](b, "!!document.querySelector('dialog[open]')") {
		within = "//dialog"
	}
	path := fmt.Sprintf("%s//*[self::button or self::a][normalize-space()=%q]", within, text)
	b.do("press "+text, chromedp.Click(path, chromedp.NodeVisible))
}

// write types a text into the field with that name, which is cleared before.
func (b *tab) write(field, text string) {
	b.t.Helper()
	selector := chromedp.CSS(fmt.Sprintf("input[name=%q]", field))
	b.do("write into "+field, chromedp.Clear(selector), chromedp.SendKeys(selector, text))
}

// actions opens the actions of a row.
func (b *tab) actions(name string) {
	b.t.Helper()
	b.click(cell(name, "actions") + " button")
}

func (b *tab) click(selector string) {
	b.t.Helper()
	b.do("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// row returns the selector of a row of the table.
func row(name string) string { return fmt.Sprintf("tr[data-name=%q]", name) }

// cell returns the selector of a cell of a row.
func cell(name, column string) string { return row(name) + " .c-" + column }

// size sets the size of the window and the color scheme, dark or light.
func (b *tab) size(width, height int64, scheme string) {
	b.t.Helper()
	b.do("set the size", chromedp.EmulateViewport(width, height))
	command(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}

// js returns a value as JavaScript has it.
func js(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func evaluate(script string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](script)
}
