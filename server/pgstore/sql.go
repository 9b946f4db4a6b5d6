package pgstore

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/relukko/relukko-go/server/store"
)

const (
	fields   = `id, name, creator, ip, expires_at, created_at, updated_at, token, owner`
	ofResult = `(lock).id, (lock).name, (lock).creator, (lock).ip, (lock).expires_at, ` +
		`(lock).created_at, (lock).updated_at, (lock).token, (lock).owner`

	createSQL = `SELECT outcome, leave, ` + ofResult +
		` FROM relukko_go.create_lock($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
	findSQL   = `SELECT ` + fields + ` FROM relukko_go.find_created($1, $2)`
	getSQL    = `SELECT ` + fields + ` FROM relukko_go.locks WHERE id = $1`
	holderSQL = `SELECT ` + fields + ` FROM relukko_go.locks WHERE name = $1`
	listSQL   = `SELECT ` + fields + ` FROM relukko_go.locks ORDER BY token`
	deleteSQL = `WITH ending AS MATERIALIZED (
		SELECT set_config('relukko_go.ending', $2, true) AS told)` + deleteEnding
	deleteEnding = `
	DELETE FROM relukko_go.locks l USING ending
		WHERE l.id = $1 AND ending.told IS NOT NULL RETURNING ` + fields
	// handOverSQL is deleteSQL, but takes the advisory locks of a create before the row is locked,
	// as locksSQL does.
	handOverSQL = `WITH advisory AS MATERIALIZED (SELECT
		CASE WHEN $3::text IS NOT NULL
			THEN pg_advisory_xact_lock_shared(1919708011, hashtext($3::text)) END,
		pg_advisory_xact_lock(1919708012, hashtext($4::text))
	), ending AS MATERIALIZED (
		SELECT set_config('relukko_go.ending', $2, true) AS told FROM advisory)` + deleteEnding
	claimSQL = `SELECT outcome, new_claim, ` + ofResult +
		` FROM relukko_go.claim_mark($1, $2, $3)`
	cancelSQL = `SELECT outcome, new_claim, ` + ofResult +
		` FROM relukko_go.cancel_mark($1, $2, $3, $4)`
	forgetSQL = `SELECT relukko_go.forget($1)`
	pruneSQL  = `SELECT relukko_go.prune($1, $2, $3)`
	sweepSQL  = `SELECT ` + fields + ` FROM relukko_go.sweep($1, $2, $3, $4)`

	newExpiry = `CASE WHEN $6::interval > interval '0' AND NOT (` + sameExpiry + `)
		THEN least(` + wantedExpiry + `, l.created_at + $6::interval) ELSE ` + wantedExpiry + ` END`
	wantedExpiry = `coalesce($3::timestamptz, clock.now + $4::interval, ` +
		`l.expires_at + $5::interval)`
	sameExpiry = `$3::timestamptz IS NULL AND $4::interval IS NULL AND $5::interval = interval '0'`
	updateSQL  = `UPDATE relukko_go.locks l SET
	creator = coalesce($2, l.creator), updated_at = clock.now, expires_at = ` + newExpiry + `,
	lease = CASE WHEN l.lease IS NULL OR ` + sameExpiry + `
		THEN l.lease ELSE ` + newExpiry + ` - clock.now END
	FROM (SELECT clock_timestamp() AS now) clock WHERE l.id = $1 RETURNING ` + fields

	// At most sweepPause, because thousands of years do not fit a time.Duration. What expires later
	// is due later, too. The subquery uses the index; a join would read all locks.
	nextSQL = `SELECT clock.now, least(clock.now + $3::interval,
		(SELECT min(CASE WHEN l.lease IS NULL THEN l.expires_at + $1::interval
			ELSE greatest(l.expires_at + relukko_go.lease_grace(l.lease),
				clock.now + relukko_go.lease_stays(l.lease) - $2::interval) END)
			FROM relukko_go.locks l WHERE l.expires_at <= clock.now + $3::interval)) - clock.now
	FROM (SELECT clock_timestamp() AS now) clock`
)

// The history within a time, from the newest on. Now is that of the transaction, unlike
// clock_timestamp, so that an index serves.
const (
	endedSQL = `SELECT ` + fields + `, ended_at, how, by_key, reason, waited
	FROM relukko_go.history`
	historySQL = endedSQL + ` WHERE ended_at >= greatest($1::timestamptz, now() - $2::interval)
		AND ended_at <= $3`
	historyOrder     = ` ORDER BY ended_at DESC, n DESC LIMIT $4`
	historyAllSQL    = historySQL + historyOrder
	historyOfNameSQL = historySQL + ` AND name = $5` + historyOrder
)

// The outcomes of create_lock, claim_mark and cancel_mark.
const (
	made = iota
	held
	cancelled
	left // to a waiter of another server
	superseded
	tooMany // cancelled marks of the owner
)

func collect(rows pgx.Rows) ([]store.Lock, error) {
	locks := []store.Lock{}
	var r row
	_, err := pgx.ForEachRow(rows, r.fields(), func() error {
		locks = append(locks, r.lock())
		return nil
	})
	return locks, err
}

// row is a lock in the database. All of it is null if there is none.
type row struct {
	id                        pgtype.UUID
	name, creator, ip         *string
	expires, created, updated pgtype.Timestamptz
	token                     *int64
	owner                     *string
}

func (r *row) fields() []any {
	return []any{&r.id, &r.name, &r.creator, &r.ip, &r.expires, &r.created, &r.updated, &r.token,
		&r.owner}
}

// scan reads the only row of a result, or none.
func (r *row) scan(from pgx.Row) error {
	err := from.Scan(r.fields()...)
	if errors.Is(err, pgx.ErrNoRows) {
		*r = row{}
		return nil
	}
	return err
}

// lock returns the zero Lock if there is none.
func (r *row) lock() store.Lock {
	if !r.id.Valid {
		return store.Lock{}
	}
	return store.Lock{
		ID: r.id.String(), Name: *r.name, Creator: r.creator, IP: *r.ip,
		ExpiresAt: r.expires.Time.UTC(), CreatedAt: r.created.Time.UTC(),
		UpdatedAt: r.updated.Time.UTC(), FencingToken: uint64(*r.token),
		Owner: *r.owner,
	}
}

// endedRow is an entry of the history in the database.
type endedRow struct {
	row
	at    pgtype.Timestamptz
	how   string
	entry store.Ended
}

func (r *endedRow) fields() []any {
	return append(r.row.fields(), &r.at, &r.how, &r.entry.By, &r.entry.Reason, &r.entry.Waited)
}

func (r *endedRow) ended() store.Ended {
	r.entry.Lock, r.entry.At = r.lock(), r.at.Time.UTC()
	r.entry.How, _ = store.ParseHow(r.how)
	return r.entry
}

func parseID(id string) (key pgtype.UUID, ok bool) {
	return key, len(id) == 36 && key.Scan(id) == nil
}
