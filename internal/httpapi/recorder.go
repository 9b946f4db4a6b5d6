package httpapi

import "net/http"

// recorder remembers the status of the response, 0 before there is any.
type recorder struct {
	http.ResponseWriter
	status int
}

func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 {
		rec.status = status
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
