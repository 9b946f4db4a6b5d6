package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// serveLog is the log of a server. Its first line, and the key that was generated,
// are printed at any level.
type serveLog struct {
	*slog.Logger
	w    io.Writer
	json bool
}

func newServeLog(w io.Writer, format, level string) (*serveLog, error) {
	least := new(slog.LevelVar)
	switch level {
	case "debug", "info", "warn", "error":
		_ = least.UnmarshalText([]byte(level))
	default:
		return nil, usage("--log-level: %q is none of debug, info, warn, error", level)
	}
	opts := slog.HandlerOptions{Level: least}
	switch format {
	case "text":
		return &serveLog{slog.New(slog.NewTextHandler(w, &opts)), w, false}, nil
	case "json":
		return &serveLog{slog.New(slog.NewJSONHandler(w, &opts)), w, true}, nil
	}
	return nil, usage("--log-format: %q is neither text nor json", format)
}

// listening says where the server listens and which store it uses.
func (l *serveLog) listening(addr net.Addr, tls bool, spec string) {
	url := "http://" + addr.String()
	if tls {
		url = "https://" + addr.String()
	}
	l.print(fmt.Sprintf("relukko: listening on %s, store %s", url, showStore(spec)),
		"listening", slog.String("url", url), slog.String("store", showStore(spec)))
}

func (l *serveLog) generatedKey(key string) {
	l.print("relukko: no API key was given, so one was generated, valid until the server ends:\n"+
		"export "+envKey+"="+key,
		"no API key was given, so one was generated", slog.String(envKey, key))
}

func (l *serveLog) print(text, message string, attrs ...slog.Attr) {
	if !l.json {
		fmt.Fprintln(l.w, text)
		return
	}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, message, 0)
	record.AddAttrs(attrs...)
	_ = l.Handler().Handle(context.Background(), record) // Handle does not check the level
}
