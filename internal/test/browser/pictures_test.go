package browser

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// picture writes what the tab shows, with at most 256 colors.
func (b *tab) picture(name string) {
	b.t.Helper()
	shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(b.t, err)
	img, err := png.Decode(bytes.NewReader(shot))
	require.NoError(b.t, err)
	var small bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	require.NoError(b.t, encoder.Encode(&small, quantised(img)))
	require.Less(b.t, small.Len(), 150_000, "a picture must not make the repository large")
	require.NoError(b.t, os.WriteFile(filepath.Join(*pictures, name+".png"), small.Bytes(), 0o644))
}

// quantised returns the picture with 256 of its colors: the most frequent ones, and then one of
// each kind.
func quantised(img image.Image) *image.Paletted {
	counts := map[color.RGBA]int{}
	r := img.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			counts[color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int {
		return counts[b] - counts[a]
	})
	palette := color.Palette{}
	alike := map[[3]uint8]bool{}
	for _, c := range colors {
		kind := [3]uint8{c.R >> 4, c.G >> 4, c.B >> 4}
		if len(palette) < 64 || !alike[kind] && len(palette) < 256 {
			alike[kind] = true
			palette = append(palette, c)
		}
	}
	small := image.NewPaletted(r, palette)
	draw.Draw(small, r, img, r.Min, draw.Src)
	return small
}

// TestPictures makes the pictures of the documentation; with -all-sizes those by which the page is
// judged.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		return // they are made on purpose only
	}
	s := stage(t)
	b := s.visitor("")
	for _, p := range []struct {
		name          string
		width, height int64
		scheme        string
		show          func(*tab)
	}{
		{"page", 1280, 600, "light", (*tab).showTable},
		{"page-dark", 1280, 600, "dark", (*tab).showTable},
		{"page-phone", 360, 740, "light", (*tab).showTable},
		{"page-break", 1280, 640, "light", (*tab).showBreak},
		{"page-lock", 1280, 980, "light", (*tab).showLock},
		{"page-wall", 1920, 1080, "dark", (*tab).showWall},
	} {
		b.size(p.width, p.height, p.scheme)
		p.show(b)
		b.picture(p.name)
	}
	if *allSizes {
		inAllSizes(b, open(t, s.url))
	}
}

func inAllSizes(b, guest *tab) {
	for _, size := range []struct{ width, height int64 }{{360, 740}, {1280, 720}, {2560, 1080}} {
		for _, scheme := range []string{"light", "dark"} {
			name := fmt.Sprintf("-%d-%s", size.width, scheme)
			for what, show := range map[string]func(*tab){
				"table": (*tab).showTable, "menu": (*tab).showMenu, "break": (*tab).showBreak,
				"extend": (*tab).showExtend, "lock": (*tab).showLock, "wall": (*tab).showWall,
			} {
				b.size(size.width, size.height, scheme)
				show(b)
				b.picture(what + name)
			}
			guest.size(size.width, size.height, scheme)
			guest.visit("/")
			guest.sees("main", "Sign in")
			guest.picture("sign-in" + name)
		}
	}
}

// staged waits until all of the stage is there.
func (b *tab) staged() {
	b.t.Helper()
	b.live()
	b.await("document.querySelectorAll('tr[data-name]').length == 11")
	b.sees(cell("robot-arm-1", "waiters"), "2")
}

func (b *tab) showTable() {
	b.visit("/")
	b.staged()
}

func (b *tab) showWall() {
	b.visit("/?wall")
	b.staged()
}

func (b *tab) showMenu() {
	b.showTable()
	b.actions("robot-arm-1")
	b.sees("dialog", "Break")
}

func (b *tab) showBreak() {
	b.showMenu()
	b.press("Break…")
	b.sees("dialog", "stop their work")
	b.write("reason", "the bench must be rebooted")
}

func (b *tab) showExtend() {
	b.showTable()
	b.actions("camera-4")
	b.press("Extend…")
	b.sees("dialog", "from now")
}

func (b *tab) showLock() {
	b.visit("/lock?name=robot-arm-1")
	b.live()
	b.await("document.querySelector('.chart canvas')")
	b.await("document.querySelectorAll('[aria-labelledby=queue] tbody tr').length == 2")
}
