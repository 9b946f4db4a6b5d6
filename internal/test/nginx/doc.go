// Package nginx has no code: its tests run the real relukko serve behind a proxy, an nginx, with
// the configuration that docs/configuration.md recommends and with one that passes no WebSockets.
// Both keep nginx's own time-outs.
//
// Where nginx is not installed the tests are skipped, with a message that says what to install;
// with RELUKKO_REQUIRE_NGINX set they fail instead. The flag -long adds a wait that is longer than
// nginx's proxy_read_timeout.
package nginx
