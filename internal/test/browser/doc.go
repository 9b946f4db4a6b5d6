// Package browser has no code: its tests look at the page of package web in a browser, Chromium,
// as people do. They are skipped where there is none, unless RELUKKO_REQUIRE_BROWSER is set.
//
// With -pictures ../../../docs/images they also make the pictures of the documentation.
package browser
