// Package interop has no code: its tests run the Python clients, and their own
// unchanged suites, against relukko serve.
package interop

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	relukko "gitlab.com/relukko/relukko-go"
	"gitlab.com/relukko/relukko-go/api"
	"gitlab.com/relukko/relukko-go/internal/test/pgtest"
)

var (
	postgres pgtest.Cluster
	tempDirs []string
)

func TestMain(m *testing.M) {
	code := postgres.Main(m).Run()
	for _, dir := range tempDirs {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func TestPyRelukkosSuitePasses(t *testing.T) {
	t.Parallel() // it mostly waits
	v := python(t)
	passes := func(t *testing.T, b backend) { v.suite(t, v.pyrelukko, b, 37) }
	onEachStore(t, passes)
	withKeysFile(t, passes)
}

func TestRobotFrameworkRelukkosSuitePasses(t *testing.T) {
	t.Parallel()
	v := python(t)
	passes := func(t *testing.T, b backend) { v.suite(t, v.robot, b, 21) }
	onEachStore(t, passes)
	withKeysFile(t, passes)
}

func TestPythonAndGoNeverOverlap(t *testing.T) {
	v := python(t)
	onEachStore(t, func(t *testing.T, b backend) {
		var inside, most, sections atomic.Int64
		enter := func() {
			most.Store(max(most.Load(), inside.Add(1)))
			sections.Add(1)
		}
		leave := func() { inside.Add(-1) }
		register := httptest.NewServer(
			http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/enter" {
					enter()
				} else {
					leave()
				}
			}))
		defer register.Close()

		g, ctx := errgroup.WithContext(t.Context())
		for _, way := range []string{"websocket", "poll", "poll"} {
			times := 10
			if way == "websocket" {
				times = 3 // 2.5 s each
			}
			g.Go(func() error { return v.contend(ctx, b, "shared", register.URL, times, way) })
		}
		for range 3 {
			c, err := api.New(b.url, b.key)
			require.NoError(t, err)
			defer c.Shutdown(context.Background())
			m := relukko.NewMutex(c, "shared", relukko.WithTTL(2*time.Second))
			for range 2 {
				g.Go(func() error {
					for range 20 {
						err := m.Do(ctx, func(context.Context) error {
							enter()
							defer leave()
							return nil
						})
						if err != nil {
							return err
						}
					}
					return nil
				})
			}
		}
		require.NoError(t, g.Wait())
		require.EqualValues(t, 1, most.Load(), "somebody was inside together with somebody else")
		require.EqualValues(t, 3+10+10+6*20, sections.Load())
		fmt.Println(t.Name(), sections.Load(), "sections, no overlap")
	})
}
