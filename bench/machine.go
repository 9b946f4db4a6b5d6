package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// machine describes the machine that the bench runs on.
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

// load returns the load average of the last minute, "?" where there is none.
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
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// moduleVersion returns the version of a module in this program.
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
