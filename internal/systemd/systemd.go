// Package systemd is the part of systemd's service protocol that a server uses: it says that it is
// ready or ending, and keeps the watchdog from ending it. It is less than the library for it, and
// works on every system: where no service manager is, nothing is sent.
package systemd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Messages for [Manager.Notify].
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Watchdog = "WATCHDOG=1"
)

// Status is the message that shows a text in the status of the service.
func Status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", " ") }

const writeTimeout = time.Second

// Manager is the service manager that started this process. The zero Manager is none.
type Manager struct {
	socket   string
	watchdog time.Duration
}

// FromEnv returns the manager that the environment describes: NOTIFY_SOCKET is a path, or the name
// of an abstract socket after an @; WATCHDOG_USEC, WATCHDOG_PID are as in sd_watchdog_enabled(3).
func FromEnv(getenv func(string) string) (Manager, error) {
	m := Manager{socket: getenv("NOTIFY_SOCKET")}
	if m.socket == "" {
		return Manager{}, nil
	}
	if !strings.HasPrefix(m.socket, "@") && !filepath.IsAbs(m.socket) {
		return Manager{}, fmt.Errorf("NOTIFY_SOCKET: %q is neither a path nor an abstract socket",
			m.socket)
	}
	pid := getenv("WATCHDOG_PID")
	ours := pid == "" || pid == strconv.Itoa(os.Getpid())
	if every := getenv("WATCHDOG_USEC"); every != "" && ours {
		usec, err := strconv.ParseInt(every, 10, 64)
		if err != nil || usec <= 0 || usec > int64(time.Hour*24*365/time.Microsecond) {
			return Manager{}, fmt.Errorf("WATCHDOG_USEC: %q is no number of microseconds", every)
		}
		m.watchdog = time.Duration(usec) * time.Microsecond
	}
	return m, nil
}

// Watchdog returns within which time of each other [Watchdog] messages must come; 0: none are
// expected.
func (m Manager) Watchdog() time.Duration { return m.watchdog }

// Notify sends the messages, all at one instant. Without a manager it does nothing.
func (m Manager) Notify(messages ...string) error {
	if m.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot notify the service manager: %w", err)
	}
	defer conn.Close()
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := conn.Write([]byte(strings.Join(messages, "\n"))); err != nil {
		return fmt.Errorf("cannot notify the service manager: %w", err)
	}
	return nil
}
