package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
)

// Exit statuses, where they have one in common from sysexits.h. relukko run
// passes on the status of its command besides, so they can be that command's own.
const (
	statusFailed      = 1   // none of those below
	statusUsage       = 64  // EX_USAGE: a wrong command line
	statusUnavailable = 69  // EX_UNAVAILABLE: the backend refuses or cannot be reached
	statusNotAcquired = 75  // EX_TEMPFAIL: not acquired in time
	statusLost        = 76  // EX_PROTOCOL: a lock was lost
	statusCannotRun   = 126 // as shells: the command is there but cannot be run
	statusNotFound    = 127 // as shells: there is no such command
	statusSignal      = 128 // as shells: plus the signal
)

// failure is how a command ended that did not end well: with what exit status,
// and what is to be said about it, if anything.
type failure struct {
	status int
	text   string // without "relukko:"; may be empty
}

func (f *failure) Error() string { return f.text }

func usage(format string, args ...any) *failure {
	return &failure{statusUsage, fmt.Sprintf(format, args...)}
}

func failed(format string, args ...any) *failure {
	return &failure{statusFailed, fmt.Sprintf(format, args...)}
}

// explain makes a failure of what went wrong with the backend at base: what,
// with which lock, what to do about it.
func explain(err error, base string) *failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	answer, answered := errors.AsType[*api.Error](err)
	switch {
	case errors.Is(err, relukko.ErrLockLost):
		return &failure{statusLost, plain(err)}
	case errors.Is(err, api.ErrRefused) && answer.Status != http.StatusBadRequest:
		return &failure{statusUnavailable, fmt.Sprintf("%s refuses the API key (%s). Set RELUKKO_API_KEY to one that it knows, or name a file that holds one with --api-key-file",
			base, said(answer))}
	case errors.Is(err, api.ErrRefused):
		return &failure{statusUnavailable, fmt.Sprintf("%s refuses to %s (%s)", base, answer.Op, said(answer))}
	case errors.Is(err, api.ErrGone):
		return failed("%s: there is no such lock any more", answer.Op)
	case answered && answer.Status < 300, answered && answer.Status == http.StatusNotFound:
		return &failure{statusUnavailable, fmt.Sprintf("%s does not answer like a Relukko backend (%s). Does --url or RELUKKO_BASE_URL lack a path?", base, said(answer))}
	case answered:
		return &failure{statusUnavailable, fmt.Sprintf("%s could not %s (%s)", base, answer.Op, said(answer))}
	}
	return &failure{statusUnavailable, unreachable(err, base)}
}

// said is what an answer said.
func said(e *api.Error) string {
	s := strings.TrimPrefix(e.Error(), "relukko: "+e.Op+": ")
	return printable(s)
}

// unreachable words why no answer came from the backend at base.
func unreachable(err error, base string) string {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	certificate, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, another := errors.AsType[x509.HostnameError](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("no Relukko backend at %s: connection refused. Start one with `relukko serve`, or set RELUKKO_BASE_URL", base)
	case isDNS:
		return fmt.Sprintf("no Relukko backend at %s: %s: %s. Check --url or RELUKKO_BASE_URL", base, dns.Name, dns.Err)
	case another:
		return fmt.Sprintf("the certificate of %s is for another address: %s. Have --url or RELUKKO_BASE_URL name it as its certificate does", base, printable(certificate.Err.Error()))
	case untrusted:
		return fmt.Sprintf("the certificate of %s cannot be trusted: %s. Set REQUESTS_CA_BUNDLE to a file with the certificate of its CA", base, printable(certificate.Err.Error()))
	case isNet && timeout.Timeout():
		return fmt.Sprintf("no answer from %s in time. Is the address right, and is the network up?", base)
	}
	return fmt.Sprintf("no answer from %s: %s", base, plain(err))
}

// plain is the text of an error, on one line, without the "relukko:" that all
// texts of the program begin with anyway.
func plain(err error) string {
	text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "relukko: "), ": relukko: ", ": ")
	return printable(oneLine.Replace(text))
}

// oneLine is for the texts of drivers, which have some more below the first line.
var oneLine = strings.NewReplacer("\n\t", " ", "\n", " ", "\t", " ")

// heldBy words who holds a lock, and since when.
func heldBy(holder *api.Lock, now time.Time) string {
	if holder == nil {
		return "held by somebody else"
	}
	s := "held by " + holderOf(*holder)
	if holder.IP != "" {
		s += " (" + printable(holder.IP) + ")"
	}
	return fmt.Sprintf("%s for %s", s, short(now.Sub(holder.CreatedAt)))
}
