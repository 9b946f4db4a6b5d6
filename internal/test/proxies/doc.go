// Package proxies has no code. Its tests run the real relukko serve behind a proxy: nginx and Caddy
// as docs/operations.md recommends, and an nginx that passes no WebSockets. The proxies keep their
// own time-outs.
//
// Where a proxy is not installed its tests are skipped, with a message that says what to install;
// with RELUKKO_REQUIRE_PROXIES set they fail instead. The flag -long adds a wait that is longer
// than nginx's proxy_read_timeout.
package proxies
