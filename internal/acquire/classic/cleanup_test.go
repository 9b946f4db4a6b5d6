package classic

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func calledOff() answer { return answer{status: 204} }

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

func TestCleanup(t *testing.T) {
	slow := func(f func() answer) []step { return []step{at(3*time.Second, f)} }
	mine, others := lock(200, 1, mark, time.Minute), lock(200, 2, mark2, time.Minute)
	for name, tt := range map[string]struct {
		script *script
		want   []string // the requests besides creates
		logged string
	}{
		"the create is answered late, and its lock is deleted": {
			script: &script{create: slow(lock(201, 1, mark, time.Minute)), release: now(mine)},
			want:   []string{"call off 1s", "release 3s"},
		},
		"the create is answered late: held": {
			script: &script{create: slow(says(409))},
			want:   []string{"call off 1s"},
		},
		"the create is never answered, and has made nothing": {
			script: &script{create: slow(lost), list: now(list(others))},
			want:   []string{"call off 1s", "list 3s", "list 4s", "list 8s"},
		},
		"the create is never answered, and has made a lock": {
			script: &script{create: slow(lost), release: now(mine),
				list: now(list(others), list(others, mine))},
			want: []string{"call off 1s", "list 3s", "list 4s", "release 4s"},
		},
		"the List is not answered at first": {
			script: &script{create: slow(lost), release: now(mine),
				list: now(says(503), foreign(404), lost, list(mine))},
			want: []string{"call off 1s", "list 3s", "list 4s", "list 5s", "list 6s", "release 6s"},
		},
		"the List is refused": {
			script: &script{create: slow(lost), list: now(says(403))},
			want:   []string{"call off 1s", "list 3s"},
			logged: "a lock may be left on the backend until it expires",
		},
		"the lock is gone before it is deleted": {
			script: &script{create: slow(lock(201, 1, mark, time.Minute)), release: now(says(404))},
			want:   []string{"call off 1s", "release 3s"},
		},
		"the release is not answered at first": {
			script: &script{create: slow(lock(201, 1, mark, time.Minute)),
				release: now(says(503), mine)},
			want: []string{"call off 1s", "release 3s", "release 3.2s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := tt.script
			s.callOff = now(says(404))
			scripted(t, s, func(t *testing.T, d *Driver) {
				logged, _ := cancelled(t, d)
				require.Equal(t, append([]string{"create 0s"}, tt.want...), s.requests())
				if tt.logged == "" {
					require.Empty(t, logged)
				}
				require.Contains(t, logged, tt.logged)
			})
		})
	}
}

func TestCleanupWhereCreatesCanBeCalledOff(t *testing.T) {
	for name, tt := range map[string]struct {
		callOff, list []step
		took          time.Duration
		lists         int
	}{
		"immediately": {callOff: now(calledOff)},
		"after some errors": {callOff: now(says(503), lost, foreign(404), calledOff),
			took: 3 * time.Second},
		"too slow at first": {callOff: []step{at(12*time.Second, lost), at(0, calledOff)},
			took: 11 * time.Second},
		// Then the mark is looked for: at once, and after 1 s and 5 s.
		"refused": {callOff: now(says(403)), took: 5 * time.Second, lists: 3},
		"not let through": {callOff: now(foreign(404)), took: 11*time.Second + 5*time.Second,
			lists: 3},
		"never answered": {callOff: now(says(503)), took: 12*time.Second + 5*time.Second,
			lists: 4},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{
				create:  now(offering(heldBy(1, mark2)), lost),
				callOff: tt.callOff, list: now(list()),
			}
			scripted(t, s, func(t *testing.T, d *Driver) {
				logged, took := cancelled(t, d)
				require.Empty(t, logged)
				require.Equal(t, tt.took, took)
				_, cleanup, _ := strings.Cut(strings.Join(s.requests(), " "), "call off")
				require.Equal(t, tt.lists, strings.Count(cleanup, "list"))
			})
		})
	}
}

func TestNothingIsCleanedUpWhereNothingCanBeLeft(t *testing.T) {
	s := &script{create: now(heldBy(1, mark2)), list: now(list())}
	scripted(t, s, func(t *testing.T, d *Driver) {
		_, took := cancelled(t, d)
		require.Zero(t, took)
		for _, r := range s.requests() {
			require.NotContains(t, r, "call off")
		}
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
	c := &cleanup{name: "arm"}
	require.Equal(t, `lock "arm": the cleanup of a Lock that gave up`, c.Describe())
	synctest.Test(t, func(*testing.T) { c.Abandon() })
}
