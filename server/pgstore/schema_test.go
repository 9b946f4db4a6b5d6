package pgstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/relukko/relukko-go/server/pgstore"
	"gitlab.com/relukko/relukko-go/server/store"
)

// TestSeveralStartAtOnce on an empty database.
func TestSeveralStartAtOnce(t *testing.T) {
	t.Parallel()
	url := postgres.Database(t)
	var stores [8]*pgstore.Store
	concurrently(len(stores), func(i int) {
		s, err := pgstore.Open(context.Background(), url, nil)
		if err != nil {
			t.Error(err)
			return
		}
		stores[i] = s
		if _, err := s.Create(context.Background(), newLock("robot-arm-1")); err != nil &&
			err != store.ErrHeld {
			t.Error(err)
		}
	})
	for _, s := range stores {
		require.NotNil(t, s)
		require.NoError(t, s.Close())
	}
	locks, err := open(t, url).List(t.Context())
	require.NoError(t, err)
	require.Len(t, locks, 1)
}

// TestWhatIsThereStaysThere: the original Relukko and others may use the same database, and locks
// outlive their servers.
func TestWhatIsThereStaysThere(t *testing.T) {
	url := postgres.Database(t)
	sql(t, url, `CREATE TABLE public.locks (id text);
		INSERT INTO public.locks VALUES ('theirs'); CREATE TABLE public.version (n int)`)
	first := open(t, url)
	lock := create(t, first, newLock("robot-arm-1"))
	require.NoError(t, first.Close())
	second := open(t, url)
	got, err := second.Get(t.Context(), lock.ID)
	require.NoError(t, err)
	require.Equal(t, lock, got)
	remove(t, second, lock.ID)
	require.Greater(t, create(t, second, newLock("robot-arm-1")).FencingToken, lock.FencingToken)
	sql(t, url, `DO $$ BEGIN
		ASSERT (SELECT array_agg(id) FROM public.locks) = ARRAY['theirs']; END $$`)
}

// TestASchemaThatWillNotDo is said to be so, with what to do.
func TestASchemaThatWillNotDo(t *testing.T) {
	t.Parallel()
	asUser := func(url string) string {
		return strings.Replace(
			url, "user=postgres", "user=limited", 1)
	}
	sql(t, postgres.Database(t), `CREATE ROLE limited LOGIN`)
	t.Cleanup(func() { sql(t, postgres.Database(t), `DROP ROLE limited`) })
	for name, test := range map[string]struct {
		prepare func(url string)
		asUser  bool
		want    string // empty: works
	}{
		"of a newer program": {func(url string) {
			open(t, url)
			sql(
				t, url, `UPDATE relukko_go.version SET version = 99`)
		}, false, "start a newer one"},
		"not to be created": {func(string) {}, true, "GRANT CREATE ON DATABASE"},
		"another's": {func(
			url string) {
			sql(t, url,
				`CREATE SCHEMA relukko_go; CREATE TABLE relukko_go.locks (n int)`)
		}, false, `"locks" already exists`},
		"created beforehand": {func(url string) {
			sql(
				t, url, `CREATE SCHEMA relukko_go AUTHORIZATION limited`)
		}, true, ""},
		"created by an owner": {grantAll(t), true, ""},
		"not permitted":       {func(url string) { open(t, url) }, true, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			url := postgres.Database(t)
			test.prepare(url)
			if test.asUser {
				url = asUser(url)
			}
			s, err := pgstore.Open(t.Context(), url, nil)
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				require.NotErrorIs(t, err, store.ErrUnavailable, "trying again does not help")
				return
			}
			require.NoError(t, err)
			remove(t, s, create(t, s, newLock("robot-arm-1")).ID)
			_, _, err = s.Claim(t.Context(), owner, "mark")
			require.NoError(t, err)
			_, err = s.Cancel(t.Context(), owner, "mark")
			require.NoError(t, err)
			require.NoError(t, s.Publish(t.Context(), []store.Waiter{{IP: "192.0.2.7"}}))
			_, err = s.Sweep(t.Context(), store.Limits{})
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
}

// grantAll has the superuser create the schema, and gives the limited role the rights that the docs
// name.
func grantAll(t *testing.T) func(url string) {
	return func(url string) {
		s, err := pgstore.Open(t.Context(), url, nil)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		sql(t, url, `GRANT USAGE ON SCHEMA relukko_go TO limited`)
		sql(t, url, `GRANT SELECT, INSERT, UPDATE, DELETE
			ON ALL TABLES IN SCHEMA relukko_go TO limited`)
		sql(t, url, `GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA relukko_go TO limited`)
	}
}

// TestADatabaseThatWillNotDo is told from one that can't be reached now.
func TestADatabaseThatWillNotDo(t *testing.T) {
	url := postgres.Database(t)
	for name, test := range map[string]struct {
		url         string
		unavailable bool
	}{
		"no URL":           {"postgres://user:s3cret@host:port/db", false},
		"no such database": {strings.Replace(url, "///", "///no_such_", 1), false},
		"no such role":     {strings.Replace(url, "user=postgres", "user=nobody", 1), false},
		"nobody there":     {"postgres://user:s3cret@127.0.0.1:1/db", true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pgstore.Open(t.Context(), test.url, nil)
			require.Error(t, err)
			require.Equal(t, test.unavailable, errors.Is(err, store.ErrUnavailable), "%v", err)
			require.NotContains(t, err.Error(), "s3cret")
		})
	}
	latin := strings.Replace(url, "///", "///latin_", 1)
	sql(t, url, `CREATE DATABASE latin_`+strings.SplitN(strings.SplitN(url, "///", 2)[1], "?",
		2)[0]+` ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`)
	_, err := pgstore.Open(t.Context(), latin, nil)
	require.ErrorContains(t, err, "LATIN1")
}
