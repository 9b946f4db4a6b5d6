// Package wire is what goes over the wire between a Relukko client and a Relukko backend: the JSON
// of locks, requests, errors, broadcasts and the stream's messages, the headers, ids and marks.
// Client and server share it, so that each part of the protocol is written down once.
//
// Everything is appended and scanned by hand. These bytes are in each request, and encoding/json
// costs more than all else that an acquire does. What comes from the other side is checked while it
// is read, copied only where it is kept, and never trusted with a size or a depth.
package wire
