package wire

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testMark    = "k3v9x2m4q7ab"
	testCreator = "user@host/17 (flash 1.2) #" + testMark
)

// streamRequests are the examples of the API's description.
var streamRequests = []struct {
	text string
	want StreamRequest
}{
	{`{"n":7,"acquire":{"lock_names":["bench-1"],"creator":"` + testCreator + `","lease":60,` +
		`"wait":true,"progress":true,"again":false,"priority":0,"waited":0,` +
		`"rank":1795647600000001,"place":3}}`,
		StreamRequest{N: 7, Kind: RequestAcquire, Acquire: StreamAcquire{
			Names: []string{"bench-1"}, Creator: testCreator, Lease: time.Minute, Wait: true,
			Progress: true, Rank: 1795647600000001, Place: 3,
		}}},
	{`{"n":7,"acquire_all":{"lock_names":["a","b"],"creator":"` + testCreator + `",` +
		`"lease":0.5,"wait":false,"progress":false,"again":true,"priority":-10,"waited":1.5}}`,
		StreamRequest{N: 7, Kind: RequestAcquireAll, Acquire: StreamAcquire{
			Names: []string{"a", "b"}, Creator: testCreator, Lease: MinLease, Again: true,
			Priority: -10, Waited: 1500 * time.Millisecond,
		}}},
	{`{"n":8,"cancel":"` + testMark + `"}`,
		StreamRequest{N: 8, Kind: RequestCancel, Mark: testMark}},
	{`{"n":9,"renew":"` + testID + `","lease":60}`,
		StreamRequest{N: 9, Kind: RequestRenew, ID: testID, Lease: time.Minute}},
	{`{"n":10,"release":"` + testID + `"}`,
		StreamRequest{N: 10, Kind: RequestRelease, ID: testID}},
	{`{"n":9007199254740991,"ping":true}`, StreamRequest{N: 1<<53 - 1, Kind: RequestPing}},
}

func TestStreamRequests(t *testing.T) {
	for _, c := range streamRequests {
		require.Equal(t, c.text, string(AppendStreamRequest(nil, &c.want)))
		got, err := ParseStreamRequest([]byte(c.text))
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

// acquireWith returns an acquire with one member changed, or left out where value is "".
func acquireWith(name, value string) string {
	text := streamRequests[0].text
	from := strings.Index(text, `"`+name+`":`)
	to := from + strings.IndexAny(text[from:], ",}")
	if value == "" {
		return text[:from] + `"":0` + text[to:]
	}
	return text[:from] + `"` + name + `":` + value + text[to:]
}

func quotedNames(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return string(appendStrings(nil, names))
}

func TestStreamRequestsInOtherForms(t *testing.T) {
	acquire := streamRequests[0].want
	changed := func(change func(*StreamRequest)) StreamRequest {
		r := acquire
		change(&r)
		return r
	}
	ping := StreamRequest{N: 7, Kind: RequestPing}
	unknown := StreamRequest{N: 7}
	for _, c := range []struct {
		name, text string
		want       StreamRequest
	}{
		{"space and another order", " {\t\"ping\" :\n true , \"n\"\r: 7 } ", ping},
		{"escapes", `{"\u006e":7,"p\u0069ng":true}`, ping},
		{"n with a fraction", `{"n":7.0,"ping":true}`, ping},
		{"n with an exponent", `{"n":0.7E+1,"ping":true}`, ping},
		{"unknown members", `{"n":7,"a":[{"n":8},[]],"ping":true,"b":{"ping":[]},"lease":{}}`,
			ping},
		{"the last n", `{"n":8,"n":null,"n":7,"ping":true}`, ping},
		{"null for other kinds", `{"n":7,"acquire":null,"ping":true,"cancel":null}`, ping},
		{"the last of each kind", `{"n":7,"acquire":{},"renew":7,"acquire":null,"renew":null,` +
			`"ping":1,"ping":true}`, ping},
		{"nothing", `{"n":7}`, unknown},
		{"something unknown", `{"n":7,"steal":"` + testID + `"}`, unknown},
		{"no ping", `{"n":7,"ping":false}`, unknown},
		{"an id in capitals", `{"n":7,"release":"` + strings.ToUpper(testID) + `"}`,
			StreamRequest{N: 7, Kind: RequestRelease, ID: testID}},
		{"an escaped mark", `{"n":7,"cancel":"\u006b3v9x2m4q7ab"}`,
			StreamRequest{N: 7, Kind: RequestCancel, Mark: testMark}},
		{"the first acquire is wrong", `{"acquire":{"lock_names":7},` + streamRequests[0].text[1:],
			acquire},
		{"lease 60.0", acquireWith("lease", "60.0"), acquire},
		{"lease 6e1", acquireWith("lease", "6e1"), acquire},
		{"no wait", acquireWith("wait", ""), changed(func(r *StreamRequest) {
			r.Acquire.Wait = false
		})},
		{"wait null", acquireWith("wait", "null"), changed(func(r *StreamRequest) {
			r.Acquire.Wait = false
		})},
		{"no priority", acquireWith("priority", ""), acquire},
		{"priority 1e1", acquireWith("priority", "1e1"), changed(func(r *StreamRequest) {
			r.Acquire.Priority = 10
		})},
		{"waited null", acquireWith("waited", "null"), acquire},
		{"waited 30 days", acquireWith("waited", "2592000"), changed(func(r *StreamRequest) {
			r.Acquire.Waited = MaxWaited
		})},
		{"escaped name", acquireWith("lock_names", `["b\u0065nch-1"]`), acquire},
	} {
		got, err := ParseStreamRequest([]byte(c.text))
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, got, c.name)
	}
	r, err := ParseStreamRequest([]byte(acquireWith("lock_names", quotedNames(MaxNames))))
	require.NoError(t, err)
	require.Len(t, r.Acquire.Names, MaxNames)
}

func TestStreamRequestsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		text string
		n    uint64
		says string
	}{
		{``, 0, "not valid JSON"},
		{`{"n":7,"ping":true`, 7, "not valid JSON"},
		{`{"n":7,"ping":true}}`, 7, "not valid JSON"},
		{"{\"n\":7,\"\xff\":true}", 7, "not valid UTF-8"},
		{`[7]`, 0, "must be a JSON object"},
		{`null`, 0, "must be a JSON object"},
		{`{"ping":true}`, 0, "n must be a positive integer"},
		{`{"n":null,"ping":true}`, 0, "n must be"},
		{`{"n":0,"ping":true}`, 0, "n must be"},
		{`{"n":-1,"ping":true}`, 0, "n must be"},
		{`{"n":1.5,"ping":true}`, 0, "n must be"},
		{`{"n":"7","ping":true}`, 0, "n must be"},
		{`{"n":9007199254740992,"ping":true}`, 0, "n must be"},
		{`{"n":1e999,"ping":true}`, 0, "n must be"},
		{`{"n":7,"ping":true,"release":"x"}`, 7, "one thing"},
		{`{"n":7,"cancel":"k3v9x2m4q7a"}`, 7, "cancel must be a mark"},
		{`{"n":7,"cancel":"K3V9X2M4Q7AB"}`, 7, "cancel must be a mark"},
		{`{"n":7,"cancel":true}`, 7, "cancel must be a mark"},
		{`{"n":7,"renew":"x","lease":60}`, 7, "must be a UUID"},
		{`{"n":7,"renew":"` + testID + `"}`, 7, "lease must be between 0.5 and 31536000"},
		{`{"n":7,"renew":"` + testID + `","lease":0.4999}`, 7, "lease must be"},
		{`{"n":7,"release":7}`, 7, "must be a UUID"},
		{`{"n":7,"acquire":7}`, 7, "must be an object"},
		{`{"n":7,"acquire_all":[]}`, 7, "must be an object"},
		{acquireWith("lock_names", ""), 7, "1 to 100 names"},
		{acquireWith("lock_names", "[]"), 7, "1 to 100 names"},
		{acquireWith("lock_names", `"bench-1"`), 7, "1 to 100 names"},
		{acquireWith("lock_names", quotedNames(MaxNames+1)), 7, "1 to 100 names"},
		{acquireWith("lock_names", `["a","b","a"]`), 7, "a name twice"},
		{acquireWith("lock_names", `["a","\u0061"]`), 7, "a name twice"},
		{acquireWith("lock_names", `["a",null]`), 7, "must be a string"},
		{acquireWith("lock_names", `[""]`), 7, "1 to 255 bytes"},
		{acquireWith("lock_names", `["`+strings.Repeat("x", 256)+`"]`), 7, "it has 256"},
		{acquireWith("lock_names", `["a\n"]`), 7, "control characters"},
		{acquireWith("creator", ""), 7, "creator must end with a mark"},
		{acquireWith("creator", `"user@host"`), 7, "creator must end with a mark"},
		{acquireWith("creator", `"user #k3v9x2m4q7a"`), 7, "creator must end with a mark"},
		{acquireWith("creator", `7`), 7, "creator must be a string"},
		{acquireWith("creator", `"`+strings.Repeat("x", 1024)+testCreator+`"`), 7, "1024 bytes"},
		{acquireWith("lease", ""), 7, "lease must be"},
		{acquireWith("lease", "null"), 7, "lease must be"},
		{acquireWith("lease", `"60"`), 7, "lease must be"},
		{acquireWith("lease", "31536000.1"), 7, "lease must be"},
		{acquireWith("lease", "-60"), 7, "lease must be"},
		{acquireWith("wait", "1"), 7, "must be true or false"},
		{acquireWith("progress", `"true"`), 7, "must be true or false"},
		{acquireWith("again", "[]"), 7, "must be true or false"},
		{acquireWith("priority", "11"), 7, "between -10 and 10"},
		{acquireWith("priority", "-11"), 7, "between -10 and 10"},
		{acquireWith("priority", "0.5"), 7, "between -10 and 10"},
		{acquireWith("priority", "false"), 7, "between -10 and 10"},
		{acquireWith("waited", "-1"), 7, "between 0 and 2592000"},
		{acquireWith("waited", "2592000.1"), 7, "between 0 and 2592000"},
		{acquireWith("rank", "0.5"), 7, "rank must be an integer"},
		{acquireWith("waited", `"0"`), 7, "between 0 and 2592000"},
	} {
		r, err := ParseStreamRequest([]byte(c.text))
		require.ErrorContains(t, err, c.says, c.text)
		requireInvalid(t, err)
		require.Equal(t, c.n, r.N, c.text)
	}
}

// streamMessages are the examples of the API's description.
func streamMessages() []streamMessage {
	lock, second := theLock(), theLock()
	lock.FencingToken, lock.Owner = 1730405683000000, "ci-runner"
	lock.Creator = new(testCreator)
	second.ID, second.Name = otherID, "robot-arm-2"
	text := string(AppendLock(nil, &lock))
	return []streamMessage{
		{`{"hello":{"key":"ci-runner","role":"user","features":["all"]}}`, StreamMessage{
			Kind: MessageHello, Key: "ci-runner", Role: "user", Features: []string{"all"}}},
		{`{"hello":{"key":"default","role":"admin","features":[]}}`, StreamMessage{
			Kind: MessageHello, Key: "default", Role: "admin"}},
		{`{"n":7,"seen":9,"lock":` + text + `}`, StreamMessage{
			N: 7, Kind: MessageLock, Seen: 9, HasSeen: true, Lock: lock}},
		{`{"n":7,"seen":0,"lock":` + text + `}`, StreamMessage{
			N: 7, Kind: MessageLock, HasSeen: true, Lock: lock}},
		{`{"n":9,"lock":` + text + `}`, StreamMessage{N: 9, Kind: MessageLock, Lock: lock}},
		{`{"n":7,"seen":9,"locks":[` + text + `,` + string(AppendLock(nil, &second)) + `]}`,
			StreamMessage{N: 7, Kind: MessageLocks, Seen: 9, HasSeen: true,
				Locks: []Lock{lock, second}}},
		{`{"n":7,"waiting":{"ahead":2,"holder":` + text + `}}`, StreamMessage{
			N: 7, Kind: MessageWaiting, Ahead: 2, Holder: &lock}},
		{`{"n":7,"waiting":{"holder":null}}`, StreamMessage{
			N: 7, Kind: MessageWaiting, Ahead: -1}},
		{`{"n":7,"error":{"status":409,"message":"held","lock":` + text + `}}`, StreamMessage{
			N: 7, Kind: MessageError, Err: StreamError{Status: 409, Message: "held", Lock: &lock}}},
		{`{"error":{"status":400,"message":"the message is not valid JSON"}}`, StreamMessage{
			Kind: MessageError,
			Err:  StreamError{Status: 400, Message: "the message is not valid JSON"}}},
		{`{"n":8,"done":true}`, StreamMessage{N: 8, Kind: MessageDone}},
		{`{"n":11,"pong":true}`, StreamMessage{N: 11, Kind: MessagePong}},
		{`{"deleted":` + text + `,"by":"ci-runner"}`, StreamMessage{
			Kind: MessageDeleted, Lock: lock, By: "ci-runner"}},
		{`{"deleted":` + text + `}`, StreamMessage{Kind: MessageDeleted, Lock: lock}},
		{`{"wanted":{"id":"` + testID + `","waiters":2}}`, StreamMessage{
			Kind: MessageWanted, ID: testID, Waiters: 2}},
		{`{"bye":true}`, StreamMessage{Kind: MessageBye}},
	}
}

type streamMessage struct {
	text string
	want StreamMessage
}

func TestStreamMessages(t *testing.T) {
	for _, c := range streamMessages() {
		require.Equal(t, c.text, string(AppendStreamMessage(nil, &c.want)))
		got, err := ParseStreamMessage([]byte(c.text))
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

func TestStreamMessagesInOtherForms(t *testing.T) {
	lock := theLock()
	for _, c := range []struct {
		name, text string
		want       StreamMessage
	}{
		{"unknown", `{"n":7,"news":{}}`, StreamMessage{N: 7}},
		{"nothing", `{}`, StreamMessage{}},
		{"unknown members", ` { "lock":` + testLock + `, "x" : [1,{"n":2}] , "n" : 7.0 } `,
			StreamMessage{N: 7, Kind: MessageLock, Lock: lock}},
		{"the last counts", `{"lock":7,"n":7,"error":{},"error":null,"lock":` + testLock + `}`,
			StreamMessage{N: 7, Kind: MessageLock, Lock: lock}},
		{"not even the one before", `{"lock":` + testLock + `,"n":7,"lock":null,"done":true}`,
			StreamMessage{N: 7, Kind: MessageDone}},
		{"seen null", `{"n":7,"seen":null,"lock":` + testLock + `}`,
			StreamMessage{N: 7, Kind: MessageLock, Lock: lock}},
		{"a seen that is none", `{"n":7,"seen":-1,"lock":` + testLock + `}`,
			StreamMessage{N: 7, Kind: MessageLock, HasSeen: true, Lock: lock}},
		{"a place and a holder that are none", `{"n":7,"waiting":{"ahead":"x","holder":{}}}`,
			StreamMessage{N: 7, Kind: MessageWaiting, Ahead: -1}},
		{"by null", `{"by":null,"deleted":` + testLock + `}`,
			StreamMessage{Kind: MessageDeleted, Lock: lock}},
		{"sparse hello", `{"hello":{"features":[1,"all",null]}}`,
			StreamMessage{Kind: MessageHello, Features: []string{"all"}}},
		{"error without a message", `{"n":7,"error":{"status":5.03e2}}`,
			StreamMessage{N: 7, Kind: MessageError, Err: StreamError{Status: 503}}},
	} {
		got, err := ParseStreamMessage([]byte(c.text))
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, got, c.name)
	}
}

func TestStreamMessagesThatMakeNoSense(t *testing.T) {
	for text, says := range map[string]string{
		``:                                     "it is not JSON",
		`{"bye":true`:                          "it is not JSON",
		"{\"bye\":true,\"x\":\"\xff\"}":        "it is not valid UTF-8",
		`[]`:                                   "it is not a JSON object",
		`{"n":7,"done":true,"pong":true}`:      "more than one thing",
		`{"done":true}`:                        "its n is not the number of a request: missing",
		`{"n":-7,"done":true}`:                 "its n is not the number of a request: -7",
		`{"n":"7","bye":true}`:                 "its n is not",
		`{"lock":` + testLock + `}`:            "its n is not",
		`{"n":7,"lock":7}`:                     "its lock is wrong: it is not a JSON object",
		`{"n":7,"lock":{}}`:                    "its lock is wrong: its id is not a UUID: missing",
		`{"n":7,"locks":{}}`:                   "its locks is wrong: it is not a JSON array",
		`{"n":7,"locks":[7]}`:                  "element 0 is not a lock",
		`{"n":7,"waiting":7}`:                  "its waiting is wrong: it is not a JSON object",
		`{"n":7,"done":false}`:                 "its done is wrong: it is not true: false",
		`{"n":7,"error":"x"}`:                  "its error is wrong: it is not a JSON object",
		`{"n":7,"error":{"status":200}}`:       "its status is not that of an error: 200",
		`{"error":{"status":400,"message":1}}`: "its message is neither null nor a string: 1",
		`{"deleted":true}`:                     "its deleted is wrong: it is not a JSON object",
		`{"deleted":` + testLock + `,"by":1}`:  "its by is neither null nor a string: 1",
		`{"wanted":{"waiters":1}}`:             "its id is not a UUID: missing",
		`{"wanted":{"id":"` + testID + `"}}`:   "its waiters is not a number: missing",
		`{"hello":{"key":1}}`:                  "its key is neither null nor a string: 1",
		`{"hello":{"features":"all"}}`:         "its features are not a JSON array",
	} {
		m, err := ParseStreamMessage([]byte(text))
		require.ErrorContains(t, err, says, text)
		require.Zero(t, m, text)
	}
}

func BenchmarkStream(b *testing.B) {
	acquire := streamRequests[0]
	b.Run("append acquire", func(b *testing.B) {
		b.ReportAllocs()
		var frame []byte
		for b.Loop() {
			frame = AppendStreamRequest(frame[:0], &acquire.want)
		}
	})
	b.Run("parse acquire", func(b *testing.B) {
		b.ReportAllocs()
		frame := []byte(acquire.text)
		for b.Loop() {
			_, _ = ParseStreamRequest(frame)
		}
	})
	grant := streamMessages()[2]
	b.Run("append lock", func(b *testing.B) {
		b.ReportAllocs()
		var frame []byte
		for b.Loop() {
			frame = AppendStreamMessage(frame[:0], &grant.want)
		}
	})
	b.Run("parse lock", func(b *testing.B) {
		b.ReportAllocs()
		frame := []byte(grant.text)
		for b.Loop() {
			_, _ = ParseStreamMessage(frame)
		}
	})
}
