package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// serveLog is the log of a server. Its first line, and those on the key that
// it made, are printed at any level.
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

// listening says where the server listens and which store it uses, and returns that as a text.
func (l *serveLog) listening(addr net.Addr, tls bool, spec string) string {
	url := urlOf(addr, tls)
	text := fmt.Sprintf("listening on %s, store %s", url, showStore(spec))
	l.print("relukko: "+text,
		"listening", slog.String("url", url), slog.String("store", showStore(spec)))
	return text
}

// keptKey says where the key is that the server has made, and whether clients find it.
func (l *serveLog) keptKey(path string, published bool) {
	what := "no API key was given, the server's own is in the file"
	if published {
		l.print("relukko: "+what+" "+path+"; clients of this user find it",
			what, slog.String(envKeyFile, path))
		return
	}
	l.print("relukko: "+what+", for clients:\nexport "+envKeyFile+"="+path,
		what, slog.String(envKeyFile, path))
}

// madeKey prints a key that is kept nowhere.
func (l *serveLog) madeKey(key string) {
	what := "no API key was given, so the server has made one, valid until it ends"
	l.print("relukko: "+what+":\nexport "+envKey+"="+key, what, slog.String(envKey, key))
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
