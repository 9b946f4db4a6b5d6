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

// versions bring the schema from nothing to version 1, from there to version 2 and so on.
var versions = []string{version1}

// advisoryClass is the first of the two numbers of our advisory locks; schema.sql uses the two that follow it.
const (
	advisoryClass = 1919708010
	migrationKey  = 0 // held by who migrates
	presenceKey   = 1 // shared by who listens
)

// migrate brings the schema up to date: in one transaction, one program at a time. A schema that is up to date it does not touch,
// so then the role needs no right to create anything.
func migrate(ctx context.Context, config *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	var encoding string
	if err := conn.QueryRow(ctx, `SHOW server_encoding`).Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s, which does not have all characters that names may have: "+
			"create one WITH ENCODING 'UTF8' TEMPLATE template0", encoding)
	}
	if done, err := upToDate(ctx, conn); done || err != nil {
		return err
	}
	// Who comes first may take longer than others would wait for any other lock. It is the session's, not the
	// transaction's: a transaction that had begun before it got the lock could take for missing what another has made since.
	for _, prepare := range []string{`SET lock_timeout = 0`, `SET statement_timeout = 0`} {
		if _, err := conn.Exec(ctx, prepare); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1, $2)`, advisoryClass, migrationKey); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return upgrade(ctx, tx) })
}

// upToDate tells whether the schema is what this program needs. A newer one may not be, so it is an error.
func upToDate(ctx context.Context, conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (bool, error) {
	have, err := currentVersion(ctx, conn)
	if have > len(versions) {
		err = fmt.Errorf("the schema relukko_go has version %d, this program knows %d at most: it is older than another that "+
			"has used the database, start a newer one", have, len(versions))
	}
	return have == len(versions), err
}

// currentVersion answers 0 when there is no schema, or an empty one.
func currentVersion(ctx context.Context, conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}) (have int, err error) {
	var there bool
	if err = conn.QueryRow(ctx, `SELECT to_regclass('relukko_go.version') IS NOT NULL`).Scan(&there); err != nil || !there {
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
		// IF NOT EXISTS would ask for the right to create a schema even where there is one.
		const begin = `DO $$ BEGIN IF to_regnamespace('relukko_go') IS NULL THEN CREATE SCHEMA relukko_go; END IF; END $$;
			CREATE TABLE relukko_go.version (version integer NOT NULL); INSERT INTO relukko_go.version VALUES (0)`
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

// hint says what to do where the role may not create the schema.
func hint(err error) error {
	const insufficientPrivilege = "42501"
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == insufficientPrivilege {
		return fmt.Errorf("%w: GRANT CREATE ON DATABASE to the role, or CREATE SCHEMA relukko_go AUTHORIZATION it", err)
	}
	return err
}
