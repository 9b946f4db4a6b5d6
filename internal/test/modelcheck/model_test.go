package modelcheck_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"gitlab.com/relukko/relukko-go/internal/test/bubble"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run this seed alone")
	from    = flag.Uint64("from", 1, "the first seed to run")
	seeds   = flag.Uint64("seeds", 300, "the last seed to run")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestModel(t *testing.T) {
	first, last := *from, *seeds
	if *oneSeed != 0 {
		first, last = *oneSeed, *oneSeed
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			checkSeed(t, seed)
		})
	}
}

// checkSeed runs the plan of a seed and checks what happened.
func checkSeed(t *testing.T, seed uint64) {
	w := &world{plan: newPlan(seed)}
	defer func() {
		if p := recover(); p != nil {
			w.violations = append(w.violations, fmt.Sprint("the run ended with a panic: ", p))
		}
		if t.Failed() || len(w.violations) > 0 {
			t.Errorf("%v\n%s\n  %s\n"+
				"repeat with: go test ./internal/test/modelcheck -seed %d -count 20\n",
				w.plan, w.history(), strings.Join(w.violations, "\n  "), seed)
		}
	}()
	bubble.Test(t, func(t *testing.T) {
		w.run(t)
		synctest.Wait()
		w.check()
	})
	w.checkLinear()
}
