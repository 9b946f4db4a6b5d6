package bubble_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTimersThatAreDueTogether crashes the race detector on more than one processor.
func TestTimersThatAreDueTogether(t *testing.T) {
	processors := runtime.GOMAXPROCS(0)
	t.Run("parallel", func(t *testing.T) {
		for _, name := range []string{"one", "another"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for range 10 {
					bubble.Test(t, func(*testing.T) { receiveTogether() })
				}
			})
		}
	})
	require.Equal(t, processors, runtime.GOMAXPROCS(0))
}

// receiveTogether has 50 goroutines that each receive from 20 timers that are due at one instant.
func receiveTogether() {
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				var due [20]<-chan time.Time
				for i := range due {
					due[i] = time.After(time.Second)
				}
				for _, c := range due {
					<-c
				}
			}
		})
	}
	wg.Wait()
}
