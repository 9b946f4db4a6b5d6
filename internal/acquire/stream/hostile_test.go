package stream

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/internal/wire"
)

// Nonsense never makes a grant. The connection is dropped; the third one in succession ends the
// acquire.
func TestHostileServer(t *testing.T) {
	other, another, expired := lockOn(1), lockOn(1), lockOn(1)
	other.Name = "robot-arm-2"
	creator := wire.WithMark("bench-7", "z2z2z2z2z2z2")
	another.Creator = &creator
	text := func(l wire.Lock) string { return string(wire.AppendLock(nil, &l)) }
	fine := func() string { return text(lockOn(1)) }
	always := func(text string) func(uint64) string { return func(uint64) string { return text } }
	with := func(format string, args ...any) func(uint64) string {
		return func(n uint64) string { return fmt.Sprintf(format, append([]any{n}, args...)...) }
	}
	expired.ExpiresAt = expired.UpdatedAt
	for name, say := range map[string]func(n uint64) string{
		"not JSON":         always(`{"n":1,"lock":`),
		"an array":         always(`[]`),
		"too long":         always(`"` + string(make([]byte, wire.MaxAnswer)) + `"`),
		"a binary message": always("\x00"),
		"never asked": func(n uint64) string {
			return fmt.Sprintf(`{"n":%d,"seen":1,"lock":%s}`, n+1, fine())
		},
		"another name":     with(`{"n":%d,"seen":1,"lock":%s}`, text(other)),
		"another mark":     with(`{"n":%d,"seen":1,"lock":%s}`, text(another)),
		"no lock":          with(`{"n":%d,"seen":1,"lock":{}}`),
		"several locks":    with(`{"n":%d,"seen":1,"locks":[%s]}`, fine()),
		"done":             with(`{"n":%d,"done":true}`),
		"pong":             with(`{"n":%d,"pong":true}`),
		"an expired lock":  with(`{"n":%d,"seen":1,"lock":%s}`, text(expired)),
		"two answers":      with(`{"n":%d,"done":true,"lock":%s}`, fine()),
		"an unasked grant": always(`{"lock":` + fine() + `}`),
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				done := b.acquire(t.Context(), request())
				for range maxNonsense {
					p := b.next()
					p.say(say(p.expect(wire.RequestAcquire).N))
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
	for name, message := range map[string]string{
		"an unknown message": `{"weather":"fine"}`,
		"an unknown answer":  `{"n":1,"weather":"fine"}`,
		"a wanted":           `{"wanted":{"id":"` + testID(9) + `","waiters":2}}`,
		"a deleted":          `{"deleted":` + fine() + `,"by":"x"}`,
		"another hello":      `{"hello":{"key":"x","role":"user","features":[]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, b *fake) {
				done := b.acquire(t.Context(), request())
				p := b.next()
				n := p.expect(wire.RequestAcquire).N
				p.say(message)
				time.Sleep(time.Second)
				p.grant(n, n, lockOn(1))
				require.NoError(t, (<-done).err)
				require.Len(t, b.when(), 1)
			})
		})
	}
}

// A grant whose acquire is over: the same id is ignored, another one is released.
func TestLateGrant(t *testing.T) {
	play(t, func(t *testing.T, b *fake) {
		p, g := b.connected()
		p.grant(1, 1, lockOn(1))
		p.grant(1, 0, lockOn(2))
		r := p.expect(wire.RequestRelease)
		require.Equal(t, testID(2), r.ID)
		p.done(r.N)
		b.driver.Drop(g)
	})
}
