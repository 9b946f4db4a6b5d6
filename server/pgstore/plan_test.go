package pgstore_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
)

// planNode is a part of a plan that was carried out.
type planNode struct {
	Type  string     `json:"Node Type"`
	Rows  float64    `json:"Actual Rows"`
	Loops float64    `json:"Actual Loops"`
	Plans []planNode `json:"Plans"`
}

func (n planNode) most() float64 {
	most := n.Rows * n.Loops
	for _, below := range n.Plans {
		most = max(most, below.most())
	}
	return most
}

// TestStatementsReadWhatTheyAreAbout, however many locks there are: also the one that each server
// asks every second when the next lock is due.
func TestStatementsReadWhatTheyAreAbout(t *testing.T) {
	url := empty(t)
	s := open(t, url)
	sql(t, url, `INSERT INTO relukko_go.locks
		SELECT gen_random_uuid(), 'lock ' || n, NULL, '', now() + '1 hour', now(), now(), n,
			NULL, NULL, ''
		FROM generate_series(1, 2000) n`)
	lock := create(t, s, newLock("robot-arm-1"))
	var id pgtype.UUID
	require.NoError(t, id.Scan(lock.ID))
	for statement, args := range pgstore.Statements(lock.Name, id) {
		var text string
		require.NoError(t, s.WithConn(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
			return conn.QueryRow(ctx, `EXPLAIN (ANALYZE, FORMAT JSON) `+statement, args...).Scan(
				&text)
		}))
		var explained []struct{ Plan planNode }
		require.NoError(t, json.Unmarshal([]byte(text), &explained))
		require.LessOrEqual(t, explained[0].Plan.most(), 1.0, "%s\n%s", statement, text)
	}
}
