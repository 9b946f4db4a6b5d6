package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/unixsock"
)

// explain returns the failure for an error of the backend at base, or of the way
// there; nil for nil.
func explain(err error, base string) *failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if loss, ok := errors.AsType[*relukko.LostError](err); ok {
		return explainLoss(loss, base)
	}
	if answer, ok := errors.AsType[*api.Error](err); ok {
		return explainAnswer(answer, base)
	}
	return unreachable(err, base)
}

// explainLoss says how a lock was lost.
func explainLoss(loss *relukko.LostError, base string) *failure {
	f := &failure{status: statusLost, text: fmt.Sprintf("lock %q was lost", loss.Name)}
	switch {
	case loss.Reason == relukko.LossDeleted:
		f.text += ": somebody deleted it, or it expired"
	case loss.Reason == relukko.LossRefused:
		f.text += ": it was not renewed: " + explain(loss.Err, base).text
	case loss.Reason == relukko.LossMaxHold:
		f.text += ": the backend does not let it be held for longer (serve --max-hold)"
	case loss.Err == nil:
		f.text += ": it was not renewed in time"
	default:
		f.text += ": it was not renewed in time: " + explain(loss.Err, base).text
	}
	return f
}

// explainAnswer is for an answer that is not what was asked for.
func explainAnswer(e *api.Error, base string) *failure {
	f := &failure{status: statusUnavailable}
	proxy := proxyFor(base)
	switch {
	case errors.Is(e, api.ErrUnsupported):
		f.text = fmt.Sprintf("%s cannot %s (%s)", base, e.Op, said(e))
		f.advice = "It takes a backend of this project, as relukko serve runs one"
	case errors.Is(e, api.ErrRefused) && e.Status != http.StatusBadRequest:
		f.text = fmt.Sprintf("%s does not let this API key %s (%s)", base, e.Op, said(e))
		f.advice = "Set RELUKKO_API_KEY to a key that may do that, " +
			"or name a file that has one with --api-key-file; " +
			"`relukko status` says where this one comes from, and its role"
	case errors.Is(e, api.ErrRefused):
		f.text = fmt.Sprintf("%s refuses to %s (%s)", base, e.Op, said(e))
	case errors.Is(e, api.ErrGone):
		f.status = statusFailed
		f.text = e.Op + ": the lock does not exist any more"
	case !e.Own && proxy != "":
		f.text = fmt.Sprintf("no answer from %s: something on the way, probably the proxy %s, "+
			"answered %s", base, proxy, said(e))
		f.advice = checkProxy
	case e.Status < 300, e.Status == http.StatusNotFound:
		f.text = fmt.Sprintf("%s is not a Relukko backend (%s)", base, said(e))
		f.advice = "Check --url or RELUKKO_BASE_URL: is a path missing?"
	default:
		f.text = fmt.Sprintf("%s could not %s (%s)", base, e.Op, said(e))
	}
	return f
}

// said returns what an answer said.
func said(e *api.Error) string {
	s := fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return printable(s)
}

// unreachable is for a request that got no answer from the backend at base.
func unreachable(err error, base string) *failure {
	dns, isDNS := errors.AsType[*net.DNSError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	certificate, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	socket, isSocket := errors.AsType[*unixsock.DialError](err)
	_, otherHost := errors.AsType[x509.HostnameError](err)
	f := &failure{status: statusUnavailable}
	proxy := proxyFor(base)
	switch {
	case isSocket:
		f.text = fmt.Sprintf("cannot connect to %s: %s", base, socket.Problem)
		f.advice = socketAdvice(socket, base)
	case otherHost:
		f.text = fmt.Sprintf("the certificate of %s is for another address: %s",
			base, printable(certificate.Err.Error()))
		f.advice = "Use an address that the certificate has in --url or RELUKKO_BASE_URL"
	case untrusted:
		f.text = fmt.Sprintf("the certificate of %s is not trusted: %s",
			base, printable(certificate.Err.Error()))
		f.advice = "Set REQUESTS_CA_BUNDLE to a file with the certificate of its CA"
	case proxy != "":
		f.text = fmt.Sprintf("no answer from %s through the proxy %s: %s",
			base, proxy, network(err))
		f.advice = checkProxy
	case errors.Is(err, syscall.ECONNREFUSED):
		f.text = fmt.Sprintf("no Relukko backend at %s: connection refused", base)
		f.advice = "Start one with `relukko serve`, or set RELUKKO_BASE_URL"
	case isDNS:
		f.text = fmt.Sprintf("no Relukko backend at %s: %s: %s", base, dns.Name, dns.Err)
		f.advice = "Check --url or RELUKKO_BASE_URL"
	case isNet && timeout.Timeout():
		f.text = fmt.Sprintf("no answer from %s in time", base)
		f.advice = checkNetwork
	default:
		f.text = fmt.Sprintf("no answer from %s: %s", base, plain(err))
	}
	return f
}

// socketAdvice says what to do about a socket that cannot be connected to.
func socketAdvice(e *unixsock.DialError, base string) string {
	switch {
	case errors.Is(e, fs.ErrPermission):
		return "Use an account that may use it, or see --socket-mode in `relukko serve --help`"
	case errors.Is(e, syscall.ECONNREFUSED), errors.Is(e, fs.ErrNotExist):
		return "Start one with `relukko serve --addr " + base + "`, or set RELUKKO_BASE_URL"
	}
	return "Check --url or RELUKKO_BASE_URL: it must end with the name of the socket"
}

const checkNetwork = "Is the address right, and is the network up?"

const checkProxy = "Check HTTP_PROXY and HTTPS_PROXY, or add the backend's host to NO_PROXY"

// proxyFor returns the proxy for requests to base, "" if there is none.
func proxyFor(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	if err != nil || proxy == nil {
		return ""
	}
	return (&url.URL{Scheme: proxy.Scheme, Host: proxy.Host}).String() // without its password
}

// network returns what the network said.
func network(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Name + ": " + dns.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return plain(op)
	}
	return plain(err)
}
