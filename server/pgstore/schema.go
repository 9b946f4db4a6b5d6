package pgstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed schema.sql
var version1 string

//go:embed schema2.sql
var version2 string

//go:embed schema3.sql
var version3 string

// versions[n] brings the schema from version n to n+1; version 0 is none.
var versions = []string{version1, version2, version3}

// advisoryClass is the first of the two numbers of an advisory lock. schema.sql uses those that
// follow it.
const (
	advisoryClass = 1919708010
	migrationKey  = 0 // held by the server that migrates
	presenceKey   = 1 // shared by the servers that listen
	usersKey      = 2 // shared by all connections of servers, or held by one copy of the store
)

// migrate brings the schema up to date, in one transaction, one program at a time. If it is up to
// date already, the role needs no right to create anything.
func migrate(ctx context.Context, conn *pgx.Conn) error {
	var encoding string
	if err := conn.QueryRow(ctx, `SHOW server_encoding`).Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s, which lacks characters that names "+
			"may have: create one WITH ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	if done, err := upToDate(ctx, conn); done || err != nil {
		return err
	}
	// The first server may take longer than the others would wait for any other lock. The lock is
	// the session's: a transaction that began before it got the lock might not see what the first
	// made.
	for _, prepare := range []string{`SET lock_timeout = 0`, `SET statement_timeout = 0`} {
		if _, err := conn.Exec(ctx, prepare); err != nil {
			return err
		}
	}
	const lockSQL = `SELECT pg_advisory_lock($1, $2)`
	if _, err := conn.Exec(ctx, lockSQL, advisoryClass, migrationKey); err != nil {
		return err
	}
	for {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return upgrade(ctx, tx) })
		if !hasCode(err, codeDeadlock) { // with a call of a program of an earlier version
			return err
		}
	}
}

// upToDate reports whether the schema is what this program needs. A newer one is an error.
func upToDate(ctx context.Context, conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (bool, error) {
	have, err := currentVersion(ctx, conn)
	if have > len(versions) {
		err = fmt.Errorf("the schema relukko_go has version %d, this program knows %d at most: "+
			"it is older than another that has used the database, start a newer one",
			have, len(versions))
	}
	return have == len(versions), err
}

// currentVersion returns 0 if there is no schema, or an empty one.
func currentVersion(ctx context.Context, conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (have int, err error) {
	var there bool
	const sql = `SELECT to_regclass('relukko_go.version') IS NOT NULL`
	if err = conn.QueryRow(ctx, sql).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = conn.QueryRow(ctx, `SELECT version FROM relukko_go.version`).Scan(&have)
	return have, err
}

func upgrade(ctx context.Context, tx pgx.Tx) error {
	if done, err := upToDate(ctx, tx); done || err != nil {
		return err
	}
	have, err := currentVersion(ctx, tx)
	if err != nil {
		return err
	}
	if have == 0 {
		// IF NOT EXISTS would need the right to create a schema even if it exists.
		const begin = `DO $$ BEGIN
				IF to_regnamespace('relukko_go') IS NULL THEN CREATE SCHEMA relukko_go; END IF;
			END $$;
			CREATE TABLE relukko_go.version (version integer NOT NULL);
			INSERT INTO relukko_go.version VALUES (0)`
		if _, err := tx.Exec(ctx, begin); err != nil {
			return hint(err)
		}
	}
	for ; have < len(versions); have++ {
		if _, err := tx.Exec(ctx, versions[have]); err != nil {
			return fmt.Errorf("schema relukko_go, version %d: %w", have+1, hint(err))
		}
	}
	_, err = tx.Exec(ctx, `UPDATE relukko_go.version SET version = $1`, len(versions))
	return err
}

// hint says what to do if the role may not create the schema.
func hint(err error) error {
	const insufficientPrivilege = "42501"
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == insufficientPrivilege {
		return fmt.Errorf("%w: GRANT CREATE ON DATABASE to the role, "+
			"or CREATE SCHEMA relukko_go AUTHORIZATION it", err)
	}
	return err
}
