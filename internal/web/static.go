package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed all:static
var staticFiles embed.FS

// asset is a static file.
type asset struct {
	contentType  string
	body, zipped []byte // zipped is nil where that is no smaller
}

// contentTypes does not depend on the system's, since browsers refuse a script of another type.
var contentTypes = map[string]string{
	".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png",
	".ico": "image/x-icon", ".woff2": "font/woff2",
}

// assets has the static files by their paths, and the hash of all of them. The hash stands in their
// URLs, before the path, so that they can be kept for ever and refer to each other by relative
// paths.
var assets = sync.OnceValues(func() (map[string]asset, string) {
	all := make(map[string]asset)
	hash := sha256.New()
	_ = fs.WalkDir(staticFiles, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := staticFiles.ReadFile(name)
		if err != nil {
			return err
		}
		hash.Write([]byte(name))
		hash.Write(body)
		kind := contentTypes[path.Ext(name)]
		if kind == "" {
			kind = "text/plain; charset=utf-8"
		}
		all[strings.TrimPrefix(name, "static/")] = asset{kind, body, zip(body)}
		return nil
	}) // files that are embedded can be read
	return all, hex.EncodeToString(hash.Sum(nil)[:8])
})

// zip returns the body compressed, or nil where that is no smaller.
func zip(body []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a level that there is
	_, _ = w.Write(body)
	if w.Close() != nil || b.Len() >= len(body) {
		return nil
	}
	return b.Bytes()
}

// staticPath returns the URL under which the static files are.
func staticPath() string {
	_, hash := assets()
	return "/static/" + hash
}

// serveStatic serves /static/HASH/PATH. With the hash of another version it serves the file of this
// one, for a page that was open during an update of the server.
func serveStatic(w http.ResponseWriter, r *http.Request) {
	all, hash := assets()
	version, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/static/"), "/")
	file, ok := all[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.contentType)
	h.Set("Vary", "Accept-Encoding")
	if version == hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body := file.body
	if file.zipped != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = file.zipped
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // fails only if the client is gone
}
