package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// machine describes what is measured on.
func machine() string {
	text := fmt.Sprintf("%d cores", runtime.NumCPU())
	if model := processor(); model != "" {
		text += " of " + model
	}
	kernel := runtime.GOOS
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = "Linux " + string(bytes.TrimSpace(release))
	}
	return text + ", shared by clients and servers; " + kernel + "; " + runtime.Version()
}

// load answers how busy the machine has been in the last minute, as far as the
// system tells.
func load() string {
	averages, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	last, _, _ := strings.Cut(string(averages), " ")
	return last
}

func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok &&
			strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// moduleVersion answers the version of a module in this program.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "?"
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "?"
}
