package cli

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

const base = "http://relukko.example"

// held is a lock that was created a while ago.
func held(id, by string, ago time.Duration) relukko.Waiting {
	return relukko.Waiting{
		Holder: &api.Lock{ID: id, Creator: by, CreatedAt: time.Now().Add(-ago)}, Ahead: -1,
	}
}

// Elsewhere than on a terminal, each holder is a line, and each 2 min, so that CI
// systems see that the job lives.
func TestLinesWithoutATerminal(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := newWaiting(&out, base, false)
		lines := func() (s string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			defer out.Reset()
			return out.String()
		}
		onWait := w.onWait("arm")
		onWait(held("1", "A", time.Second))
		require.Equal(t, "relukko: waiting for lock \"arm\", held by A for 1s\n", lines())
		onWait(held("1", "A", time.Second))
		require.Empty(t, lines(), "nothing has changed")

		// Of holders that change quickly not every one is a line.
		for i := range 100 {
			onWait(held(strings.Repeat("x", i), "B", 0))
		}
		onWait(held("2", "C", 0))
		require.Empty(t, lines())
		time.Sleep(redrawEvery + time.Millisecond)
		require.Equal(t, "relukko: waiting for lock \"arm\", held by C for 1s, waiting for 1s\n",
			lines())

		time.Sleep(10 * time.Minute)
		got := strings.Split(strings.TrimSpace(lines()), "\n")
		require.Len(t, got, 5)
		require.Equal(t, `relukko: waiting for lock "arm", held by C for 2m01s, waiting for 2m01s`,
			got[0])

		time.Sleep(redrawEvery)
		slog.New(w).Info("retrying", "error", errors.New("cut off"))
		slog.New(w).Info("retrying", "error", errors.New("cut off"))
		require.Equal(t,
			"relukko: no answer from "+base+": cut off, retrying, waiting for 10m02s\n",
			lines())
		time.Sleep(redrawEvery)
		onWait(held("2", "C", 0))
		require.Contains(t, lines(), "held by C", "the backend says it again")
		w.end(new(relukko.Session))
		require.Equal(t, "relukko: acquired lock \"arm\" after 10m03s\n", lines())
	})
}

func TestQuietSaysWhatIsLeftBehind(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := newWaiting(&out, base, true)
	w.onWait("arm")(held("1", "A", 0))
	slog.New(w).Warn("retrying", "error", errors.New("cut off"))
	w.end(new(relukko.Session))
	require.Empty(t, out.String())
	slog.New(w).Error("a lock may be left", "error", errors.New("cut off"))
	require.Equal(t, "relukko: a lock may be left: no answer from "+base+": cut off\n",
		out.String())
}

// The line fits; holder and time are there also when the name is long or wide.
func TestTheLineFits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, row := range map[string]struct {
		lock, holder string
		trouble      string
		width        int
		want         string
	}{
		"short": {lock: "arm", holder: "Ada", width: 100,
			want: `relukko: waiting for lock "arm", held by Ada for 3s, waiting for 5s`},
		"long name": {lock: strings.Repeat("long-", 30), holder: "Ada", width: 79,
			want: `relukko: waiting for lock "long-long-long…", ` +
				`held by Ada for 3s, waiting for 5s`},
		"wide": {lock: "機械臂一号・標定工作台・三階実験室", holder: "デプロイ", width: 79,
			want: `relukko: waiting for lock "機械臂一…", held by デプロイ for 3s, waiting for 5s`},
		"both": {lock: strings.Repeat("name", 30), holder: strings.Repeat("holder", 30), width: 79,
			want: `relukko: waiting for lock "namenam…", ` +
				`held by holderholderhold…, waiting for 5s`},
		"narrow": {lock: "arm", holder: "Ada", width: 20, want: `relukko: waiting fo…`},
		"trouble": {lock: "arm", trouble: "no answer from there, retrying", width: 40,
			want: `relukko: no answer from…, waiting for 5s`},
		"trouble, narrow": {lock: "arm", trouble: "no answer from there, retrying", width: 17,
			want: `…, waiting for 5s`},
		"trouble, narrower": {lock: "arm", trouble: "no answer from there, retrying", width: 16,
			want: `…, waiting for …`},
	} {
		w := &waiting{name: row.lock, holder: held("", row.holder, 3*time.Second).Holder,
			trouble: row.trouble, began: now.Add(-5 * time.Second)}
		line := w.line(now, row.width)
		require.LessOrEqual(t, columns(line), row.width, name)
		require.Equal(t, row.want, line, name)
	}
}
