package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestErrorBodies(t *testing.T) {
	holder := theLock()
	held := AppendError(nil, 409, `lock "robot-arm-1" is held`, &holder)
	require.Equal(t, ErrorBody{Message: `lock "robot-arm-1" is held`, Holder: &holder, Own: true},
		DecodeError(409, held))
	require.Equal(t, ErrorBody{Message: "no <such> lock", Own: true},
		DecodeError(404, AppendError(nil, 404, "no <such> lock", nil)))

	for _, c := range []struct {
		name   string
		status int
		body   string
		want   ErrorBody
	}{
		{"another order", 422, ` {"message":"m","status":4.22e2} `, ErrorBody{Message: "m",
			Own: true}},
		{"a lock that is none", 409, `{"status":409,"message":"m","lock":{}}`,
			ErrorBody{Message: "m", Own: true}},
		{"a lock that is null", 409, `{"status":409,"message":"m","lock":null}`,
			ErrorBody{Message: "m"}},
		{"another status", 404, `{"status":422,"message":"m"}`, ErrorBody{Message: "m"}},
		{"the status as text", 404, `{"status":"404","message":"m"}`, ErrorBody{Message: "m"}},
		{"no status", 404, `{"message":"m"}`, ErrorBody{Message: "m"}},
		{"one more member", 404, `{"status":404,"message":"m","path":"/"}`,
			ErrorBody{Message: "m"}},
		{"a member twice", 404, `{"status":404,"message":"m","status":404}`,
			ErrorBody{Message: "m"}},
		{"no message", 404, `{"status":404}`, ErrorBody{Message: `{"status":404}`}},
		{"an array", 404, `["status","message"]`, ErrorBody{Message: `["status","message"]`}},
		{"HTML", 502, "<html>", ErrorBody{Message: "<html>"}},
		{"nothing", 404, "", ErrorBody{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, DecodeError(c.status, []byte(c.body)))
		})
	}
}
