package browser

import (
	"bytes"
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

// quantised returns the picture with its 256 most frequent colors.
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
	for _, c := range colors[:min(256, len(colors))] {
		palette = append(palette, c)
	}
	small := image.NewPaletted(r, palette)
	draw.Draw(small, r, img, r.Min, draw.Src)
	return small
}

// TestPictures makes the pictures of the documentation, and more for looking at the page.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		return // they are made on purpose only
	}
	s := stage(t)
	b := s.visitor("")
	b.await("document.querySelectorAll('tr[data-name]').length == 11")
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"360", 360, 740}, {"1280", 1280, 720}, {"2560", 2560, 1080}} {
		for _, scheme := range []string{"light", "dark"} {
			b.size(size.width, size.height, scheme)
			name := "-" + size.name + "-" + scheme
			b.visit("/")
			b.live()
			b.await("document.querySelectorAll('tr[data-name]').length == 11")
			b.sees(cell("robot-arm-1", "waiters"), "2")
			b.picture("table" + name)
			b.actions("robot-arm-1")
			b.sees("dialog", "Break")
			b.picture("menu" + name)
			b.press("Break…")
			b.sees("dialog", "stop their work")
			b.picture("break" + name)
			b.press("Cancel")
			b.actions("camera-4")
			b.press("Extend…")
			b.picture("extend" + name)
			b.visit("/lock?name=robot-arm-1")
			b.live()
			b.await("document.querySelector('.chart canvas')")
			b.picture("lock" + name)
			b.visit("/?wall")
			b.live()
			b.await("document.querySelectorAll('tr[data-name]').length == 11")
			b.picture("wall" + name)
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		b := open(t, s.url)
		b.size(360, 740, scheme)
		b.visit("/")
		b.sees("main", "Sign in")
		b.picture("sign-in-360-" + scheme)
	}
}
