// Package stream has no code of its own. Its tests try the whole over the stream: many clients with
// the public API, real servers on real stores, and faults between them.
//
//	go test ./internal/test/stream                    # all of it, scaled down
//	go test ./internal/test/stream -v -full -timeout=30m # the figures of docs/testing.md
package stream
