package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// reloadEvery is how often files are looked at for changes.
const reloadEvery = 10 * time.Second

// reloader loads files again when they have changed, and on SIGHUP.
type reloader struct {
	log     *slog.Logger
	sources []*source
}

// source is something that is loaded from files.
type source struct {
	what  string
	files []string
	load  func() error
	stamp string // of the files when they were last loaded
}

// add loads a source for the first time.
func (r *reloader) add(what string, load func() error, files ...string) error {
	s := &source{what: what, files: files, load: load}
	s.stamp = s.stat()
	r.sources = append(r.sources, s)
	return load()
}

// run returns when ctx ends.
func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal) {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			r.log.Info("got SIGHUP")
			r.reload(true)
		case <-tick.C:
			r.reload(false)
		}
	}
}

// reload loads what has changed, or everything. What cannot be loaded stays as it is.
func (r *reloader) reload(everything bool) {
	for _, s := range r.sources {
		stamp := s.stat()
		if stamp == s.stamp && !everything {
			continue
		}
		s.stamp = stamp
		if err := s.load(); err != nil {
			r.log.Warn("could not reload the "+s.what+", the previous stay in use", "error", err)
			continue
		}
		r.log.Info("reloaded the " + s.what)
	}
}

// stat returns a text that changes when the files do.
func (s *source) stat() string {
	stamp := ""
	for _, file := range s.files {
		if info, err := os.Stat(file); err == nil {
			stamp += fmt.Sprintln(info.ModTime().UnixNano(), info.Size())
		}
	}
	return stamp
}
