package classic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

// step is an answer of a script, which the backend takes some time for.
type step struct {
	after  time.Duration
	answer func() answer
}

// script is a backend whose answers are given: for each kind of request one
// after the other, and then the last one again and again.
type script struct {
	create, list, renew, release []step

	mu    sync.Mutex
	began time.Time
	log   []string // the requests, each with the time at which it came
}

func (s *script) respond(r *http.Request) answer {
	kinds := map[string]*[]step{
		"create": &s.create, "list": &s.list, "renew": &s.renew, "release": &s.release,
	}
	kind := map[string]string{
		http.MethodPost: "create", http.MethodGet: "list", http.MethodPut: "renew",
		http.MethodDelete: "release",
	}[r.Method]
	s.mu.Lock()
	s.log = append(s.log, fmt.Sprintf("%s %v", kind, time.Since(s.began)))
	steps := kinds[kind]
	if len(*steps) == 0 {
		s.mu.Unlock()
		return answer{status: 404, body: `{"status":404,"message":"not in the script"}`}
	}
	next := (*steps)[0]
	if len(*steps) > 1 {
		*steps = (*steps)[1:]
	}
	s.mu.Unlock()
	time.Sleep(next.after)
	a := next.answer()
	if kind == "create" { // of any name
		var asked struct {
			Name string `json:"lock_name"`
		}
		if json.NewDecoder(r.Body).Decode(&asked) == nil {
			a.body = strings.ReplaceAll(a.body, testName, asked.Name)
		}
	}
	return a
}

// requests returns what was asked for, once nothing is under way.
func (s *script) requests() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log
}

// scripted runs f in a bubble with a driver in front of a script.
func scripted(t *testing.T, s *script, f func(t *testing.T, d *Driver)) {
	bubble.Test(t, func(t *testing.T) {
		s.began = time.Now()
		f(t, backend(t, s.respond))
		pass(2 * time.Minute) // for what goes on in the background, and for slow answers
	})
}

// at answers after d.
func at(d time.Duration, f func() answer) step { return step{d, f} }

// now answers immediately, with what each f returns.
func now(all ...func() answer) (steps []step) {
	for _, f := range all {
		steps = append(steps, step{0, f})
	}
	return steps
}

func lost() answer { return answer{} } // the connection breaks without an answer

// says is the backend's own answer with that status.
func says(status int, header ...string) func() answer {
	return func() answer {
		return answer{
			status: status, body: fmt.Sprintf(`{"status":%d,"message":"as scripted"}`, status),
			header: strings.Join(header, "\r\n") + strings.Repeat("\r\n", len(header)),
		}
	}
}

// foreign is an answer of something on the way.
func foreign(status int) func() answer {
	return func() answer { return answer{status: status, body: "<html>"} }
}

// lock is the lock n of the call with that mark.
func lock(status, n int, mark string, lease time.Duration) func() answer {
	return func() answer {
		return answer{status: status, body: lockJSON(n, testName, mark, lease)}
	}
}

func list(locks ...func() answer) func() answer {
	return func() answer {
		var all []string
		for _, l := range locks {
			all = append(all, l().body)
		}
		return answer{status: 200, body: "[" + strings.Join(all, ",") + "]"}
	}
}

// heldBy is a conflict that names the holder.
func heldBy(n int, mark string) func() answer {
	return func() answer {
		return answer{status: 409, body: `{"status":409,"message":"held","lock":` +
			lockJSON(n, testName, mark, time.Minute) + `}`}
	}
}

func TestGrant(t *testing.T) {
	s := &script{create: []step{at(2*time.Second, lock(201, 1, mark, 600*time.Second))}}
	scripted(t, s, func(t *testing.T, d *Driver) {
		sent := d.Clock().Now()
		g, err := d.Acquire(t.Context(), request())
		require.NoError(t, err)
		require.Equal(t, testID(1), g.Lock.ID)
		require.Equal(t, sent, g.Since, "before the request was sent")
		require.Equal(t, 600*time.Second, g.Length)
		require.Zero(t, g.Unknown.Creates)
		d.Drop(g)
		require.Equal(t, []string{"create 0s"}, s.requests(), "nothing to clean up")
	})
}

func TestLockThatComesWhenItsLeaseIsOver(t *testing.T) {
	s := &script{
		create: []step{
			at(4*time.Second, lock(201, 1, mark, 4*time.Second)),
			at(3*time.Second, lock(201, 2, mark, 4*time.Second)),
		},
		release: now(lock(200, 1, mark, time.Second)),
	}
	scripted(t, s, func(t *testing.T, d *Driver) {
		g, err := d.Acquire(t.Context(), request())
		require.NoError(t, err)
		require.Equal(t, testID(2), g.Lock.ID)
		require.Equal(t, "release 4s", s.requests()[1])
		require.Zero(t, g.Unknown.Creates, "it was released")
		d.Drop(g)
	})
}

// TestLockThatHasWaitedInTheQueue is renewed where much of its lease may be over.
func TestLockThatHasWaitedInTheQueue(t *testing.T) {
	offered := func(status int) func() answer { return says(status, "Relukko-Wait: 30") }
	leased := lock(201, 1, mark, 12*time.Second)
	for name, c := range map[string]struct {
		waited time.Duration
		renew  []step
		since  time.Duration // the grant's
		asked  []string
	}{
		"not long": {3 * time.Second, nil, 0, []string{"create 0s", "create 0s", "list 250ms"}},
		"for long": {
			5 * time.Second, []step{at(time.Second, lock(200, 1, mark, 12*time.Second))},
			5 * time.Second, []string{"create 0s", "create 0s", "list 250ms", "renew 5s"},
		},
		"swept meanwhile": {
			5 * time.Second, now(says(404)),
			5 * time.Second,
			[]string{"create 0s", "create 0s", "list 250ms", "renew 5s", "create"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{
				create: []step{{0, offered(409)}, at(c.waited, leased), {0, leased}},
				renew:  c.renew,
				list:   now(list()),
			}
			scripted(t, s, func(t *testing.T, d *Driver) {
				began := d.Clock().Now()
				g, err := d.Acquire(t.Context(), request())
				require.NoError(t, err)
				require.InDelta(t, c.since, g.Since.Sub(began), float64(100*time.Millisecond))
				require.Equal(t, 12*time.Second, g.Length)
				asked := s.requests()
				if len(asked) == 5 {
					asked[4], _, _ = strings.Cut(asked[4], " ") // after a pause
				}
				require.Equal(t, c.asked, asked)
				d.Drop(g)
			})
		})
	}
	for name, cause := range map[string]error{
		"cancelled while it is renewed":                nil,
		"while it is renewed, another lock is lost":    &api.Error{Own: true, Status: 404},
		"while it is renewed, another key is refused":  api.ErrRefused,
		"while it is renewed, another lock is deleted": api.ErrGone,
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{
				create:  []step{{0, offered(409)}, at(5*time.Second, leased)},
				renew:   []step{at(time.Minute, lost)},
				list:    now(list(), list(lock(200, 1, mark, 12*time.Second)), list()),
				release: now(lock(200, 1, mark, 12*time.Second)),
			}
			scripted(t, s, func(t *testing.T, d *Driver) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(6*time.Second, func() { cancel(cause) })
				_, err := d.Acquire(ctx, request())
				require.ErrorIs(t, err, context.Canceled)
				pass(20 * time.Second)
				require.Contains(t, s.requests(), "release 6s", "the cleanup finds it")
			})
		})
	}
}

func TestLockIsFoundByItsMark(t *testing.T) {
	for name, s := range map[string]*script{
		"in the conflict": {create: now(lost, heldBy(1, mark))},
		"by a List": {
			create: now(lost, says(409)),
			list:   now(list(lock(200, 1, mark, time.Minute))),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.renew = []step{at(time.Second, lock(200, 1, mark, time.Minute))}
			scripted(t, s, func(t *testing.T, d *Driver) {
				g, err := d.Acquire(t.Context(), request())
				require.NoError(t, err)
				require.Equal(t, testID(1), g.Lock.ID)
				require.Zero(t, g.Unknown.Creates, "the first create has made it")
				require.Equal(t, time.Second, d.Clock().Now().Sub(g.Since), "before its renewal")
				d.Drop(g)
			})
		})
	}
}

func TestLockThatWasFoundByItsMarkIsGone(t *testing.T) {
	s := &script{
		create: now(lost, heldBy(1, mark), lock(201, 2, mark, time.Minute)),
		renew:  now(says(404), lock(200, 2, mark, time.Minute)), list: now(list()),
	}
	scripted(t, s, func(t *testing.T, d *Driver) {
		g, err := d.Acquire(t.Context(), request())
		require.NoError(t, err)
		require.Equal(t, testID(2), g.Lock.ID)
		d.Drop(g)
	})
}

// TestPoolAfterARefusedRenewal: a lock that a pool has found, but may not renew, keeps it from none
// of the others.
func TestPoolAfterARefusedRenewal(t *testing.T) {
	s := &script{
		create: now(lost, lock(201, 1, mark, time.Minute), lock(201, 2, mark, time.Minute)),
		renew:  now(says(403)), list: now(list()),
	}
	scripted(t, s, func(t *testing.T, d *Driver) {
		r := request()
		r.Any = []string{"bench-1", "bench-2"}
		g, err := d.Acquire(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, testID(2), g.Lock.ID)
		d.Drop(g)
	})
}

func TestHeldWithoutWaiting(t *testing.T) {
	scripted(t, &script{create: now(heldBy(1, mark2))}, func(t *testing.T, d *Driver) {
		r := request()
		r.Wait = false
		var told []string
		r.Progress = func(holder *api.Lock, _ int) { told = append(told, holder.ID) }
		_, err := d.Acquire(t.Context(), r)
		f, ok := errors.AsType[*acquire.Failure](err)
		require.True(t, ok)
		require.True(t, f.Held)
		require.Equal(t, testID(1), f.Holder.ID)
		require.ErrorIs(t, err, api.ErrHeld)
		require.Equal(t, []string{testID(1)}, told)
	})
}

func TestForeignRefusalThatPasses(t *testing.T) {
	for _, other := range []func() answer{lost, foreign(503), foreign(408), says(503), says(409)} {
		from := func(after time.Duration, f, g func() answer) func() answer {
			began := time.Now()
			return func() answer {
				if time.Since(began) < after {
					return f()
				}
				return g()
			}
		}
		s := &script{list: now(list()), renew: now(lock(200, 1, mark, time.Minute))}
		scripted(t, s, func(t *testing.T, d *Driver) {
			late := from(12*time.Second, other, from(20*time.Second, foreign(403),
				lock(201, 1, mark, time.Minute)))
			s.create = now(from(9*time.Second, foreign(302), late))
			g, err := d.Acquire(t.Context(), request())
			require.NoError(t, err)
			d.Drop(g)
		})
	}
}

func TestErrorOfACallWhoseContextEnds(t *testing.T) {
	never := []step{at(20*time.Second, lost)}
	for name, tt := range map[string]struct {
		create []step
		held   bool
		text   string
	}{
		"no answer": {never, false, "; no answer from http://backend:3000"},
		"an error":  {now(says(503)), false, "last said: relukko: create lock"},
		"held": {now(heldBy(1, mark2)), true,
			"not acquired within 3s: context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{create: tt.create, list: now(list())}
			scripted(t, s, func(t *testing.T, d *Driver) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				began := time.Now()
				_, err := d.Acquire(ctx, request())
				require.Equal(t, 3*time.Second, time.Since(began), "promptly")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				f, ok := errors.AsType[*acquire.Failure](err)
				require.True(t, ok)
				require.Equal(t, tt.held, f.Held)
				require.ErrorContains(t, err, tt.text)
				if tt.held {
					require.Equal(t, testID(1), f.Holder.ID)
				}
			})
		})
	}
}

func TestPollsWithoutPush(t *testing.T) {
	s := &script{create: now(heldBy(1, mark2))}
	scripted(t, s, func(t *testing.T, d *Driver) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := d.Acquire(ctx, request())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var times []time.Duration
		for _, r := range s.requests() {
			after, ok := strings.CutPrefix(r, "create ")
			require.True(t, ok, r)
			d, err := time.ParseDuration(after)
			require.NoError(t, err)
			times = append(times, d)
		}
		poll := time.Duration(0)
		for i := range times[1:] {
			poll = longerPoll(poll)
			gap := times[i+1] - times[i]
			require.True(t, poll/2 < gap && gap <= poll, "poll %d after %v, not %v", i, gap, poll)
		}
	})
}
