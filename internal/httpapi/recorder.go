package httpapi

import "net/http"

// recorder remembers the status of the response, 0 before there is any.
type recorder struct {
	http.ResponseWriter
	status   int
	upgraded func() // is called when the connection becomes a WebSocket's; or nil
}

func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 {
		rec.status = status
		if status == http.StatusSwitchingProtocols && rec.upgraded != nil {
			rec.upgraded()
		}
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	return rec.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController and the WebSocket find the real writer.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }
