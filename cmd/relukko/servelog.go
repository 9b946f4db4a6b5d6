package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// serveLog is what a server says on stderr. Its first line, and the key that was
// made up, are said whatever the level is.
type serveLog struct {
	*slog.Logger
	w    io.Writer
	json bool
}

func newServeLog(w io.Writer, format, level string) (*serveLog, error) {
	var opts slog.HandlerOptions
	min := new(slog.LevelVar)
	switch level {
	case "debug", "info", "warn", "error":
		_ = min.UnmarshalText([]byte(level))
	default:
		return nil, usage("--log-level: %q is none of debug, info, warn, error", level)
	}
	opts.Level = min
	switch format {
	case "text":
		return &serveLog{slog.New(slog.NewTextHandler(w, &opts)), w, false}, nil
	case "json":
		return &serveLog{slog.New(slog.NewJSONHandler(w, &opts)), w, true}, nil
	}
	return nil, usage("--log-format: %q is neither text nor json", format)
}

// listening says where the server listens and on which store.
func (l *serveLog) listening(addr net.Addr, tls bool, spec string) {
	url := "http://" + addr.String()
	if tls {
		url = "https://" + addr.String()
	}
	l.say(fmt.Sprintf("relukko: listening on %s, store %s", url, showStore(spec)),
		"listening", slog.String("url", url), slog.String("store", showStore(spec)))
}

func (l *serveLog) madeUpKey(key string) {
	l.say("relukko: no API key was given, so one was made up, good until the server ends:\nexport RELUKKO_API_KEY="+key,
		"no API key was given, so one was made up", slog.String("RELUKKO_API_KEY", key))
}

func (l *serveLog) say(text, message string, attrs ...slog.Attr) {
	if !l.json {
		fmt.Fprintln(l.w, text)
		return
	}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, message, 0)
	record.AddAttrs(attrs...)
	_ = l.Handler().Handle(context.Background(), record) // Handle itself does not look at the level
}
