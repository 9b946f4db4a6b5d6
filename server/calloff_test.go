package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/memstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	mark   = "k3v5x2m4q7ab"
	marked = "bench-7/42 #" + mark
)

// TestCallOff: whatever became of the create, no lock of it is left, and none comes later.
func TestCallOff(t *testing.T) {
	for name, c := range map[string]func(t *testing.T, b *backend){
		"never seen": func(t *testing.T, b *backend) {},
		"queued": func(t *testing.T, b *backend) {
			held := b.create("robot-arm-1", "")
			w, next := b.wait("robot-arm-1", marked, 30), (*waiting)(nil)
			synctest.Wait()
			next = b.wait("robot-arm-1", "next", 30)
			synctest.Wait()
			b.do(204, "DELETE", "/v1/waiting/"+mark, "")
			synctest.Wait()
			r := <-w.reply
			require.Equal(t, 410, r.status, r.body)
			require.Equal(t, "30", r.header.Get("Relukko-Wait"))
			require.True(t, next.pending())
			b.delete(held.ID)
			synctest.Wait()
			b.delete(next.granted(t).ID)
		},
		"held": func(t *testing.T, b *backend) {
			l := b.create("robot-arm-1", marked)
			w := b.wait("robot-arm-1", "next", 30)
			synctest.Wait()
			b.do(204, "DELETE", "/v1/waiting/"+mark, "")
			b.do(404, "GET", "/v1/locks/"+l.ID, "")
			synctest.Wait()
			b.delete(w.granted(t).ID)
		},
		"held under another creator by now": func(t *testing.T, b *backend) {
			l := b.create("robot-arm-1", marked)
			b.do(200, "PUT", "/v1/locks/"+l.ID, `{"creator":"renamed"}`)
		},
		"granted": func(t *testing.T, b *backend) {
			held := b.create("robot-arm-1", "")
			w := b.wait("robot-arm-1", marked, 30)
			synctest.Wait()
			b.delete(held.ID)
			synctest.Wait()
			w.granted(t)
		},
		"deleted already": func(t *testing.T, b *backend) {
			b.delete(b.create("robot-arm-1", marked).ID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t)
				c(t, b)
				b.do(204, "DELETE", "/v1/waiting/"+mark, "")
				require.Empty(t, b.locks())
				called := time.Now()

				other := b.create("robot-arm-2", "")
				inLine := b.wait("robot-arm-2", "another", 20)
				synctest.Wait()
				// Free, and held with others in line.
				for _, straggler := range []string{"robot-arm-1", "robot-arm-2"} {
					b.do(410, "POST", "/v1/locks", createBody(straggler, marked))
					b.do(410, "POST", "/v1/locks", createBody(straggler, "a later name #"+mark),
						"Prefer", "wait=30")
				}
				b.delete(b.create("robot-arm-1", "not "+mark).ID)
				b.delete(b.create("robot-arm-1", "#"+mark).ID)
				b.delete(b.create("robot-arm-1", "x #"+mark+" ").ID)
				b.delete(other.ID)
				synctest.Wait()
				b.delete(inLine.granted(t).ID)

				time.Sleep(time.Until(called.Add(10*time.Minute - time.Millisecond)))
				b.do(410, "POST", "/v1/locks", createBody("robot-arm-1", marked))
				time.Sleep(time.Millisecond)
				b.create("robot-arm-1", marked)
			})
		})
	}
}

// TestCallOffAndGrantAtOnce: the grant is under way when the create is called off.
func TestCallOffAndGrantAtOnce(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			b := start(t)
			held := b.create("robot-arm-1", "")
			w := b.wait("robot-arm-1", marked, 30)
			synctest.Wait()
			go b.send(t.Context(), "DELETE", "/v1/locks/"+held.ID, "")
			go b.send(t.Context(), "DELETE", "/v1/waiting/"+mark, "")
			synctest.Wait()
			require.Empty(t, b.locks())
			require.Contains(t, []int{201, 410}, (<-w.reply).status)
			b.create("robot-arm-1", "")
		})
	}
}

// TestMarksAreBounded: the oldest go first.
func TestMarksAreBounded(t *testing.T) {
	st := memstore.New()
	in := store.NewLock{ID: nobody, Name: "robot-arm-1", Mark: "first", TTL: time.Minute}
	callOff := func(mark string) {
		_, err := st.CallOff(t.Context(), mark, time.Hour)
		require.NoError(t, err)
	}
	callOff("first")
	for i := range 99_999 {
		callOff(time.Duration(i).String())
	}
	_, err := st.Create(t.Context(), in)
	require.ErrorIs(t, err, store.ErrCalledOff)
	callOff("one more")
	_, err = st.Create(t.Context(), in)
	require.NoError(t, err)
}
