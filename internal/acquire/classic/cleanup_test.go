package classic

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// cancelled makes an Acquire that is cancelled after a second, and returns what
// was logged and how long the client then had something under way.
func cancelled(t *testing.T, d *Driver) (logged string, took time.Duration) {
	var log strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r := request()
	r.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	_, err := d.Acquire(ctx, r)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	began := time.Now()
	require.NoError(t, d.client.Shutdown(context.Background()))
	return log.String(), time.Since(began)
}

// requireCleanup cancels an Acquire, and requires the requests after its create, how long they took
// and what was logged.
func requireCleanup(
	t *testing.T, d *Driver, s *script, want []string, took time.Duration, logs string,
) {
	t.Helper()
	logged, actual := cancelled(t, d)
	require.Equal(t, append([]string{"create 0s"}, want...), s.requests())
	require.Equal(t, took, actual)
	if logs == "" {
		require.Empty(t, logged)
	}
	require.Contains(t, logged, logs)
}

func TestCleanup(t *testing.T) {
	slow := func(f func() answer) []step { return []step{at(3*time.Second, f)} }
	mine, others := lock(200, 1, mark, time.Minute), lock(200, 2, mark2, time.Minute)
	for name, tt := range map[string]struct {
		script *script
		want   []string // the requests besides creates
		took   time.Duration
		logged string
	}{
		"the create is answered late, and its lock is deleted": {
			script: &script{create: slow(lock(201, 1, mark, time.Minute)), release: now(mine)},
			want:   []string{"release 3s"}, took: 2 * time.Second,
		},
		"the create is answered late: held": {
			script: &script{create: slow(says(409))}, took: 2 * time.Second,
		},
		"the create is never answered, and has made nothing": {
			script: &script{create: slow(lost), list: now(list(others))},
			want: []string{"list 3s", "list 4s", "list 6s", "list 10s", "list 18s", "list 34s",
				"list 1m6s", "list 1m18s"},
			took: 2*time.Second + acquire.AppearUnanswered,
		},
		"something on the way answers the create": {
			script: &script{create: slow(foreign(502)), list: now(list(others))},
			want:   []string{"list 3s", "list 4s", "list 6s", "list 8s"},
			took:   2*time.Second + acquire.AppearAnswered,
		},
		"the create is never answered, and has made a lock": {
			script: &script{create: slow(lost), release: now(mine),
				list: now(list(others), list(others, mine))},
			want: []string{"list 3s", "list 4s", "release 4s"}, took: 3 * time.Second,
		},
		"the List is not answered at first": {
			script: &script{create: slow(lost), release: now(mine),
				list: now(says(503), foreign(404), lost, list(mine))},
			want: []string{"list 3s", "list 4s", "list 5s", "list 6s", "release 6s"},
			took: 5 * time.Second,
		},
		"the List is refused": {
			script: &script{create: slow(lost), list: now(says(403))},
			want:   []string{"list 3s"}, took: 2 * time.Second,
			logged: "a lock may be left on the backend until it expires",
		},
		"the lock is gone before it is deleted": {
			script: &script{create: slow(lock(201, 1, mark, time.Minute)), release: now(says(404))},
			want:   []string{"release 3s"}, took: 2 * time.Second,
		},
		"the release is not answered at first": {
			script: &script{create: slow(lock(201, 1, mark, time.Minute)),
				release: now(says(503), mine)},
			want: []string{"release 3s", "release 3.2s"}, took: 2200 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			scripted(t, tt.script, func(t *testing.T, d *Driver) {
				requireCleanup(t, d, tt.script, tt.want, tt.took, tt.logged)
			})
		})
	}
}

// fakeStream is a stream on which a cancel is confirmed, or plain requests turn out to be needed,
// after these times; 0: never.
type fakeStream struct {
	confirmed, plainly time.Duration
	marks, stopped     []string
}

func (s *fakeStream) Cancel(mark string, confirmed, plainly func()) (stop func()) {
	s.marks = append(s.marks, mark)
	for after, f := range map[time.Duration]func(){s.confirmed: confirmed, s.plainly: plainly} {
		if after != 0 {
			time.AfterFunc(after, f)
		}
	}
	return func() { s.stopped = append(s.stopped, mark) }
}

// A cleanup cancels a mark over the stream, and looks for it as well, after 10 s or once the stream
// is of no use. What works first ends it.
func TestCleanupOverTheStream(t *testing.T) {
	slow := func(f func() answer) []step { return []step{at(3*time.Second, f)} }
	mine := lock(200, 1, mark, time.Minute)
	for name, tt := range map[string]struct {
		stream fakeStream
		script *script
		want   []string
		took   time.Duration
		logged string
	}{
		"confirmed": {
			stream: fakeStream{confirmed: 5 * time.Second},
			script: &script{create: slow(lost)}, took: 5 * time.Second,
		},
		"confirmed while the Lists find nothing": {
			stream: fakeStream{confirmed: 12 * time.Second},
			script: &script{create: slow(lost), list: now(list())},
			want:   []string{"list 11s", "list 12s"}, took: 12 * time.Second,
		},
		"confirmed while the Lists have no answer": {
			stream: fakeStream{confirmed: 12 * time.Second},
			script: &script{create: slow(lost), list: []step{at(20*time.Second, list())}},
			want:   []string{"list 11s"}, took: 12 * time.Second,
		},
		"confirmed while the create is under way": {
			stream: fakeStream{plainly: time.Second / 2, confirmed: time.Second},
			script: &script{create: slow(mine)}, took: 2 * time.Second,
		},
		"the create is refused for the cancel, which is confirmed later": {
			stream: fakeStream{confirmed: 5 * time.Second},
			script: &script{create: slow(says(410))}, took: 5 * time.Second,
		},
		"the create is answered before": {
			stream: fakeStream{confirmed: 5 * time.Second},
			script: &script{create: slow(mine), release: now(mine)},
			want:   []string{"release 3s"}, took: 2 * time.Second,
		},
		"the stream says nothing, and a List finds the lock": {
			script: &script{create: slow(lost), list: now(list(mine)), release: now(mine)},
			want:   []string{"list 11s", "release 11s"}, took: 10 * time.Second,
		},
		"the stream says nothing, and nothing is found": {
			script: &script{create: slow(foreign(502)), list: now(list())},
			want:   []string{"list 11s"}, took: 10 * time.Second,
		},
		"the stream refuses": {
			stream: fakeStream{plainly: 6 * time.Second},
			script: &script{create: slow(lost), list: now(list(mine)), release: now(mine)},
			want:   []string{"list 7s", "release 7s"}, took: 6 * time.Second,
		},
		"both refuse": {
			stream: fakeStream{plainly: 6 * time.Second},
			script: &script{create: slow(lost), list: now(says(403))},
			want:   []string{"list 7s"}, took: 6 * time.Second,
			logged: "a lock may be left on the backend until it expires",
		},
	} {
		t.Run(name, func(t *testing.T) {
			scripted(t, tt.script, func(t *testing.T, d *Driver) {
				d.UseStream(&tt.stream)
				requireCleanup(t, d, tt.script, tt.want, tt.took, tt.logged)
				require.Equal(t, []string{mark}, tt.stream.marks)
				require.Equal(t, []string{mark}, tt.stream.stopped)
			})
		})
	}
}

// The cancel is sent before what the caller requests next.
func TestCancelIsSentFirst(t *testing.T) {
	s := &script{create: []step{at(3*time.Second, lost)}}
	scripted(t, s, func(t *testing.T, d *Driver) {
		stream := &fakeStream{confirmed: time.Millisecond}
		d.UseStream(stream)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Acquire(ctx, request())
		require.Equal(t, []string{mark}, stream.marks)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// TestCleanupLongAfterTheLastCreate looks once: none of the locks can appear any more.
func TestCleanupLongAfterTheLastCreate(t *testing.T) {
	s := &script{create: now(lost, lock(201, 1, mark, time.Minute)),
		renew: now(lock(200, 1, mark, time.Minute)), list: now(list())}
	scripted(t, s, func(t *testing.T, d *Driver) {
		g, err := d.Acquire(t.Context(), request())
		require.NoError(t, err)
		require.Equal(t, 1, g.Unknown.Creates)
		pass(time.Hour)
		d.Drop(g)
		require.NoError(t, d.client.Shutdown(t.Context()))
		require.Len(t, s.requests(), 4)
		require.Equal(t, "list", strings.Fields(s.requests()[3])[0])
	})
}

func TestNothingIsCleanedUpWhereNothingCanBeLeft(t *testing.T) {
	s := &script{create: now(heldBy(1, mark2)), list: now(list())}
	scripted(t, s, func(t *testing.T, d *Driver) {
		_, took := cancelled(t, d)
		require.Zero(t, took)
		require.NotContains(t, strings.Join(s.requests(), " "), "release")
	})
}

func TestCleanupOfAClientThatHasClosedInAHurry(t *testing.T) {
	s := &script{create: []step{at(3*time.Second, lost)}}
	scripted(t, s, func(t *testing.T, d *Driver) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		go func() {
			time.Sleep(time.Second)
			d.client.Shutdown(ctx)
		}()
		limited, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := d.Acquire(limited, request())
		require.Error(t, err)
		pass(time.Minute)
		require.Equal(t, []string{"create 0s"}, s.requests())
	})
}

func TestDescriptionOfACleanup(t *testing.T) {
	c := &cleanup{r: &acquire.Request{Name: "arm"}}
	require.Equal(t, `lock "arm": the cleanup of a Lock that gave up`, c.Describe())
	bubble.Test(t, func(*testing.T) { c.Abandon() })
}
