package stream

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/acquire"
	"gitlab.com/relukko/relukko-go/internal/wire"
)

var arms = []string{"robot-arm-2", "robot-arm-1"}

// both asks for all of the arms.
func both() *acquire.Request {
	r := request()
	r.Name, r.All = "robot-arm-2, robot-arm-1", arms
	return r
}

// armsOn returns locks n and n+1, of the arms.
func armsOn(n int) []wire.Lock {
	locks := []wire.Lock{lockOn(n), lockOn(n + 1)}
	for i := range locks {
		locks[i].Name = arms[i]
	}
	return locks
}

// grantAll answers an acquire of all.
func (p *peer) grantAll(n, seen uint64, locks []wire.Lock) {
	p.say(string(wire.AppendStreamMessage(nil, &wire.StreamMessage{
		Kind: wire.MessageLocks, N: n, Seen: seen, HasSeen: true, Locks: locks,
	})))
}

// uses returns how many grants use the stream, and how many locks it knows as granted.
func (b *fake) uses() (users, held int) {
	b.driver.s.mu.Lock()
	defer b.driver.s.mu.Unlock()
	return b.driver.s.users, len(b.driver.s.held)
}

// playAll is play for a server that grants all of several names.
func playAll(t *testing.T, f func(t *testing.T, b *fake)) {
	play(t, func(t *testing.T, b *fake) {
		b.features = `"more", "all"`
		f(t, b)
	})
}

func TestAll(t *testing.T) {
	playAll(t, func(t *testing.T, b *fake) {
		r := both()
		r.Priority = 3
		done := b.acquire(t.Context(), r)
		p := b.next()
		ask := p.expect(wire.RequestAcquireAll)
		require.Equal(t, arms, ask.Acquire.Names)
		require.Equal(t, r.Creator, ask.Acquire.Creator)
		require.Equal(t, 3, ask.Acquire.Priority)
		require.True(t, ask.Acquire.Wait)
		require.False(t, ask.Acquire.Again)
		p.cut()

		p = b.next()
		ask = p.expect(wire.RequestAcquireAll)
		require.True(t, ask.Acquire.Again)
		sent := time.Now()
		time.Sleep(100 * time.Millisecond)
		p.grantAll(ask.N, ask.N, armsOn(1))
		out := <-done
		require.NoError(t, out.err)
		require.Len(t, out.grant.More, 1)
		for i, g := range []*acquire.Grant{out.grant, out.grant.More[0]} {
			require.Equal(t, testID(1+i), g.Lock.ID)
			require.Equal(t, arms[i], g.Lock.Name)
			require.Equal(t, lease, g.Length)
			require.True(t, g.Pushed)
			require.Equal(t, r.Creator, g.Creator)
			require.LessOrEqual(t, g.Since.Time().Sub(sent).Abs(), 10*time.Millisecond)
		}
		p.grantAll(ask.N, ask.N, armsOn(1)) // once more
		synctest.Wait()
		users, held := b.uses()
		require.Equal(t, []int{2, 2}, []int{users, held})
		b.driver.Drop(out.grant)
		p.grantAll(ask.N, ask.N, armsOn(3)) // of an earlier connection
		for _, id := range []string{testID(3), testID(4)} {
			released := p.expect(wire.RequestRelease)
			require.Equal(t, id, released.ID)
			p.done(released.N)
		}
		b.driver.Drop(out.grant.More[0])
		time.Sleep(2 * idleTime)
		require.Empty(t, b.peers, "the connection is not needed any more")
	})
}

// expectRenewals returns the renewals of these locks, which come together, in any order.
func (p *peer) expectRenewals(locks []wire.Lock) map[string]wire.StreamRequest {
	renewals := make(map[string]wire.StreamRequest)
	for range locks {
		r := p.expect(wire.RequestRenew)
		renewals[r.ID] = r
	}
	for _, l := range locks {
		require.Contains(p.t, renewals, l.ID)
	}
	return renewals
}

// Where it is unknown since when the leases count, all locks are renewed at the same time. If one
// of them is gone then, all are acquired anew.
func TestAllAreRenewed(t *testing.T) {
	playAll(t, func(t *testing.T, b *fake) {
		done := b.acquire(t.Context(), both())
		p := b.next()
		ask := p.expect(wire.RequestAcquireAll)
		p.grantAll(ask.N, 0, armsOn(1))
		renewals := p.expectRenewals(armsOn(1))
		p.renewed(renewals[testID(1)].N, armsOn(1)[0])
		p.fail(renewals[testID(2)].N, 404)

		ask = p.expect(wire.RequestAcquireAll)
		require.True(t, ask.Acquire.Again)
		p.grantAll(ask.N, 0, armsOn(3))
		sent := time.Now()
		renewals = p.expectRenewals(armsOn(3))
		for _, lock := range armsOn(3) {
			time.Sleep(20 * time.Millisecond)
			p.renewed(renewals[lock.ID].N, lock)
		}
		out := <-done
		require.NoError(t, out.err)
		require.Equal(t, sent, out.grant.Since.Time())
		require.Equal(t, sent, out.grant.More[0].Since.Time())
		users, held := b.uses()
		require.Equal(t, []int{2, 2}, []int{users, held}, "the first two are forgotten")
	})
}

// A server that cannot grant all at one instant is not asked.
func TestAllAreNotGrantedTogether(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, _ := b.connected()
		_, err := b.driver.Acquire(t.Context(), both())
		require.Equal(t, acquire.ErrApart, err)
		require.False(t, b.driver.Absent())
		b.granted(p, 2) // the next request is this one
	})
	t.Run("the next server", func(t *testing.T) {
		playAll(t, func(t *testing.T, b *fake) {
			done := b.acquire(t.Context(), both())
			p := b.next()
			p.expect(wire.RequestAcquireAll)
			b.set(func() { b.features = "" })
			p.cut()
			require.Equal(t, acquire.ErrApart, (<-done).err)
			p = b.next()
			ask := p.expect(wire.RequestCancel)
			require.Equal(t, mark, ask.Mark)
			p.done(ask.N)
		})
	})
	t.Run("there is no stream any more", func(t *testing.T) {
		playAll(t, func(t *testing.T, b *fake) {
			done := b.acquire(t.Context(), both())
			p := b.next()
			p.expect(wire.RequestAcquireAll)
			b.set(func() { b.upgrade = refuse(404, false) })
			p.cut()
			require.Equal(t, acquire.ErrApart, (<-done).err)
			time.Sleep(time.Second)
			require.Equal(t, []string{mark}, get(b, func() []string { return b.plainly }))
		})
	})
}

func TestAllAreCancelled(t *testing.T) {
	playAll(t, func(t *testing.T, b *fake) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := b.acquire(ctx, both())
		p := b.next()
		ask := p.expect(wire.RequestAcquireAll)
		require.ErrorIs(t, (<-done).err, context.DeadlineExceeded)
		cancelled := p.expect(wire.RequestCancel)
		require.Equal(t, mark, cancelled.Mark)
		p.grantAll(ask.N, ask.N, armsOn(1)) // crosses the cancel
		p.done(cancelled.N)
		for range 2 {
			r := p.expect(wire.RequestRelease)
			p.done(r.N)
		}
	})
}

// Nothing but all of the names, in their order, and with the mark, is a grant.
func TestAllAreChecked(t *testing.T) {
	creator := wire.WithMark("bench-7", "z2z2z2z2z2z2")
	for name, change := range map[string]func(l []wire.Lock) []wire.Lock{
		"one is missing": func(l []wire.Lock) []wire.Lock { return l[:1] },
		"none":           func(l []wire.Lock) []wire.Lock { return nil },
		"one too many":   func(l []wire.Lock) []wire.Lock { return append(l, lockOn(3)) },
		"another order": func(l []wire.Lock) []wire.Lock {
			slices.Reverse(l)
			return l
		},
		"the same twice":  func(l []wire.Lock) []wire.Lock { return []wire.Lock{l[0], l[0]} },
		"one id":          func(l []wire.Lock) []wire.Lock { l[1].ID = l[0].ID; return l },
		"another creator": func(l []wire.Lock) []wire.Lock { l[1].Creator = &creator; return l },
		"expired": func(l []wire.Lock) []wire.Lock {
			l[1].ExpiresAt = l[1].UpdatedAt
			return l
		},
	} {
		t.Run(name, func(t *testing.T) {
			playAll(t, func(t *testing.T, b *fake) {
				done := b.acquire(t.Context(), both())
				for range maxNonsense {
					p := b.next()
					ask := p.expect(wire.RequestAcquireAll)
					p.grantAll(ask.N, ask.N, change(armsOn(1)))
					p.ended()
				}
				out := <-done
				require.Nil(t, out.grant)
				require.ErrorContains(t, out.err, "not acquired from http://relukko.test")
				p := b.next()
				p.done(p.expect(wire.RequestCancel).N)
			})
		})
	}
}
