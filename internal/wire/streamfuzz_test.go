package wire

import (
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// plainRequest is what a slow and plain reading of a frame says; nil if it is refused.
func plainRequest(frame []byte) *StreamRequest {
	m := plainObject(frame)
	if m == nil || !utf8.Valid(frame) {
		return nil
	}
	n, ok := plainNumber(m["n"])
	if !ok || n < 1 || n > 1<<53-1 || n != math.Trunc(n) {
		return nil
	}
	r := &StreamRequest{N: uint64(n)}
	for i, name := range requestMembers[:requestN] {
		if _, ok := m[name]; !ok || i == 0 {
			continue
		}
		if r.Kind != RequestUnknown {
			return nil
		}
		r.Kind = RequestKind(i)
	}
	value := m[requestMembers[r.Kind]]
	var s string
	_ = json.Unmarshal(value, &s)
	switch r.Kind {
	case RequestAcquire, RequestAcquireAll:
		if ok = plainAcquire(value, &r.Acquire); !ok {
			return nil
		}
	case RequestCancel:
		r.Mark, ok = s, regexp.MustCompile(`^[a-z0-9]{12}$`).MatchString(s)
	case RequestRenew:
		r.ID, ok = ParseID(s)
		ok = ok && plainSeconds(m["lease"], 0.5, 365*24*3600, &r.Lease)
	case RequestRelease:
		r.ID, ok = ParseID(s)
	case RequestPing:
		if string(value) != "true" {
			r.Kind = RequestUnknown
		}
	}
	if !ok {
		return nil
	}
	return r
}

// plainObject returns the members of an object that are not null; nil for anything else.
func plainObject(text []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(text, &m) != nil {
		return nil
	}
	maps.DeleteFunc(m, func(_ string, raw json.RawMessage) bool { return string(raw) == "null" })
	return m
}

func plainNumber(raw json.RawMessage) (f float64, ok bool) {
	return f, raw != nil && json.Unmarshal(raw, &f) == nil
}

func plainSeconds(raw json.RawMessage, minimum, maximum float64, d *time.Duration) bool {
	f, ok := plainNumber(raw)
	*d = time.Duration(math.Round(f*1e6)) * time.Microsecond
	return ok && f >= minimum && f <= maximum
}

func plainAcquire(text []byte, a *StreamAcquire) bool {
	m := plainObject(text)
	if m == nil {
		return false
	}
	var names []any
	if json.Unmarshal(m["lock_names"], &names) != nil || len(names) < 1 || len(names) > 100 {
		return false
	}
	for _, v := range names {
		name, _ := v.(string)
		if name == "" || len(name) > 255 || strings.ContainsFunc(name, unicode.IsControl) ||
			slices.Contains(a.Names, name) {
			return false
		}
		a.Names = append(a.Names, name)
	}
	if json.Unmarshal(m["creator"], &a.Creator) != nil || len(a.Creator) > 1024 ||
		strings.ContainsFunc(a.Creator, unicode.IsControl) ||
		!regexp.MustCompile(` #[a-z0-9]{12}$`).MatchString(a.Creator) {
		return false
	}
	for name, to := range map[string]*bool{"wait": &a.Wait, "progress": &a.Progress,
		"again": &a.Again} {
		if raw, ok := m[name]; ok && json.Unmarshal(raw, to) != nil {
			return false
		}
	}
	if raw, ok := m["priority"]; ok {
		f, ok := plainNumber(raw)
		if a.Priority = int(f); !ok || float64(a.Priority) != f || f < -10 || f > 10 {
			return false
		}
	}
	if raw, ok := m["waited"]; ok && !plainSeconds(raw, 0, 30*24*3600, &a.Waited) {
		return false
	}
	if raw, ok := m["rank"]; ok {
		f, ok := plainNumber(raw)
		if a.Rank = int64(f); !ok || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
			return false
		}
	}
	if raw, ok := m["place"]; ok {
		f, ok := plainNumber(raw)
		if a.Place = int(f); !ok || f != math.Trunc(f) || f < 1 || f > math.MaxInt32 {
			return false
		}
	}
	return plainSeconds(m["lease"], 0.5, 365*24*3600, &a.Lease)
}

// A request is what a slow and plain reading of the same bytes says, and the same when it is
// appended again.
func FuzzStreamRequest(f *testing.F) {
	for _, c := range streamRequests {
		f.Add([]byte(c.text))
	}
	for _, text := range []string{
		` { "n" : 7e0 , "p\u0069ng" : true , "x" : [ { "n" : 8 } ] } `, `{"n":7}`, `null`,
		`{"n":1e999}`,
		`{"n":7,"ping":true,"renew":null,"n":8}`, `{"n":7,"acquire":{},"acquire":7,"cancel":"x"}`,
		acquireWith("lease", "0.5"), acquireWith("wait", "null"), acquireWith("priority", "-1e1"),
		acquireWith("lock_names", `["\ud800","\u00e4",""]`), acquireWith("waited", "1e-9"),
		acquireWith("rank", "1795647600000000"), acquireWith("rank", "0.5"),
		acquireWith("lock_names", quotedNames(MaxNames+1)), acquireWith("creator", `"x #\ud800"`),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		r, err := ParseStreamRequest(frame)
		want := plainRequest(frame)
		if err != nil {
			require.Nil(t, want)
			requireInvalid(t, err)
			require.LessOrEqual(t, len(err.Error()), 200)
			return
		}
		require.Equal(t, want, &r)
		back, err := ParseStreamRequest(AppendStreamRequest(nil, &r))
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}

// plainMessage checks that m is what a slow and plain reading of its frame says.
func plainMessage(t *testing.T, frame []byte, m StreamMessage) {
	all := plainObject(frame)
	require.NotNil(t, all)
	require.True(t, utf8.Valid(frame))
	for i, name := range messageMembers[:messageN] {
		_, ok := all[name]
		require.Equal(t, ok && i != 0, int(m.Kind) == i && i != 0)
	}
	n, _ := plainNumber(all["n"])
	require.Equal(t, n, float64(m.N))
	seen, ok := all["seen"]
	require.Equal(t, ok, m.HasSeen)
	if f, _ := plainNumber(seen); f > 0 && f < 1<<53 && f == math.Trunc(f) {
		require.Equal(t, f, float64(m.Seen))
	} else {
		require.Zero(t, m.Seen)
	}

	value := all[messageMembers[m.Kind]]
	members := plainObject(value)
	text := func(raw json.RawMessage) (s string) {
		if raw != nil {
			require.NoError(t, json.Unmarshal(raw, &s))
		}
		return s
	}
	holder := func(name string, got *Lock) {
		want, err := DecodeLock(members[name], &Lock{})
		require.Equal(t, err == nil, got != nil)
		if got != nil {
			require.Equal(t, want, *got)
		}
	}
	switch m.Kind {
	case MessageHello:
		require.Equal(t, text(members["key"]), m.Key)
		require.Equal(t, text(members["role"]), m.Role)
	case MessageLock, MessageDeleted:
		want, err := DecodeLock(value, &Lock{})
		require.NoError(t, err)
		require.Equal(t, want, m.Lock)
		if m.Kind == MessageDeleted {
			require.Equal(t, text(all["by"]), m.By)
		}
	case MessageLocks:
		want, err := decodeList(value)
		require.NoError(t, err)
		require.Equal(t, want, m.Locks)
	case MessageWaiting:
		holder("holder", m.Holder)
		if f, ok := plainNumber(members["ahead"]); m.Ahead >= 0 {
			require.True(t, ok)
			require.Equal(t, f, float64(m.Ahead))
		}
		if f, ok := plainNumber(members["rank"]); m.Rank != 0 {
			require.True(t, ok)
			require.Equal(t, f, float64(m.Rank))
		}
	case MessageError:
		status, _ := plainNumber(members["status"])
		require.Equal(t, status, float64(m.Err.Status))
		require.Equal(t, text(members["message"]), m.Err.Message)
		holder("lock", m.Err.Lock)
	case MessageWanted:
		require.Equal(t, strings.ToLower(text(members["id"])), m.ID)
		waiters, ok := plainNumber(members["waiters"])
		require.True(t, ok)
		require.Equal(t, waiters, float64(m.Waiters))
	case MessageDone, MessagePong, MessageBye:
		require.Equal(t, "true", string(value))
	}
}

// A message is what a slow and plain reading of the same bytes says, and the same when it is
// appended again.
func FuzzStreamMessage(f *testing.F) {
	for _, c := range streamMessages() {
		f.Add([]byte(c.text))
	}
	for _, text := range []string{
		` { "n" : 7e0 , "p\u006fng" : true , "x" : [ { "n" : 8 } ] } `, `{"n":7}`, `null`,
		`{"bye":1}`,
		`{"n":7,"lock":` + testLock + `,"lock":null,"done":true}`, `{"n":7,"seen":-1,"locks":[]}`,
		`{"n":7,"waiting":{"ahead":-1,"holder":{},"rank":7}}`,
		`{"hello":{"features":["a",1,null]}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := ParseStreamMessage(frame)
		if err != nil {
			require.Zero(t, m)
			require.LessOrEqual(t, len(err.Error()), 300)
			return
		}
		plainMessage(t, frame, m)
		for _, l := range append(m.Locks, m.Lock) {
			if !TimeInRange(l.ExpiresAt) || !TimeInRange(l.CreatedAt) || !TimeInRange(l.UpdatedAt) {
				return // moved out of the years 1 to 9999 by its offset
			}
		}
		for _, l := range []*Lock{m.Holder, m.Err.Lock} {
			if l != nil && (!TimeInRange(l.ExpiresAt) || !TimeInRange(l.CreatedAt) ||
				!TimeInRange(l.UpdatedAt)) {
				return
			}
		}
		back, err := ParseStreamMessage(AppendStreamMessage(nil, &m))
		require.NoError(t, err)
		require.Equal(t, m, back)
	})
}
