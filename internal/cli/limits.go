package cli

import (
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"gitlab.com/relukko/relukko-go/internal/connlimit"
	"gitlab.com/relukko/relukko-go/server"
)

// The file descriptors that a server keeps from its connections.
const (
	keptFiles = 16 // for its store, for files that are read again, and for the metrics
	maxSpare  = 64 // connections for those that hold locks, when the others are in use
)

// limitFlags are those of relukko serve that protect it.
type limitFlags struct {
	connections, waiters, acquires, requests int
}

func (f *limitFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&f.connections, "max-connections", 20_000,
		"how many connections may be open, `n`; no more than the limit of open files allows")
	flags.IntVar(&f.waiters, "max-waiters", 20_000,
		"how many requests may wait for locks, `n`")
	flags.IntVar(&f.acquires, "max-acquires", 10_000,
		"how many requests for locks may be open with keys of one name, `n`, but for admins'; "+
			"0: without bound")
	flags.IntVar(&f.requests, "max-requests", 5_000,
		"how many requests keys of one name may make in a second, `n`, but for admins'; "+
			"0: without bound. Renewals and releases do not count")
}

func (f *limitFlags) options() ([]server.Option, error) {
	if f.connections < 1 || f.waiters < 1 || f.acquires < 0 || f.requests < 0 {
		return nil, usage("--max-connections and --max-waiters must be at least 1, " +
			"--max-acquires and --max-requests at least 0")
	}
	return []server.Option{
		server.WithMaxWaiters(f.waiters), server.WithMaxAcquires(f.acquires),
		server.WithMaxRequests(f.requests),
	}, nil
}

// limit limits the connections that l accepts, for a server with the store of the spec.
func (f *limitFlags) limit(l net.Listener, spec string) (net.Listener, error) {
	limit, used := connlimit.Files()
	free := limit - used - keptFiles - databaseFiles(spec)
	spare := min(free/4, maxSpare)
	if spare < 1 {
		return nil, failed("the limit of open files is %d, which leaves none for connections: "+
			"raise it, with ulimit -n, or LimitNOFILE= in the unit of systemd", limit)
	}
	most, by := f.connections, "--max-connections"
	if free-spare < most {
		most, by = free-spare, fmt.Sprintf("the limit of open files (ulimit -n %d)", limit)
	}
	full := fmt.Sprintf("this server has %d connections, the most that %s allows, and only locks "+
		"that are held are renewed and released: try again later", most, by)
	return connlimit.New(l, most, spare, full), nil
}

// databaseFiles returns how many connections a store has to PostgreSQL, and two more, since what is
// closed may still be open.
func databaseFiles(spec string) int {
	if !isPostgres(spec) {
		return 0
	}
	conns := 16
	if u, err := url.Parse(spec); err == nil {
		if n, err := strconv.Atoi(u.Query().Get("pool_max_conns")); err == nil {
			conns = n
		}
	}
	return conns + 4
}
