//go:build windows || plan9 || solaris || aix

package unixsock

// lockDir does nothing.
func lockDir(string) (unlock func()) { return func() {} }
