-- Version 1. All that the program has in the database is in the schema relukko_go. Programs of
-- several versions may use it at once, so a later version removes nothing that this one uses.

CREATE TABLE relukko_go.locks (
    id         uuid        PRIMARY KEY,
    name       text        COLLATE "C" NOT NULL CONSTRAINT locks_name UNIQUE,
    creator    text,
    ip         text        NOT NULL,
    -- RFC 3339 has years of four digits
    expires_at timestamptz NOT NULL CONSTRAINT locks_expires_at_in_range
               CHECK (expires_at >= '0001-01-01 00:00:00+00'
                      AND expires_at < '10000-01-01 00:00:00+00'),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    token      bigint      NOT NULL,
    mark       text        COLLATE "C"
);
CREATE INDEX locks_due ON relukko_go.locks (expires_at);
CREATE INDEX locks_mark ON relukko_go.locks (mark) WHERE mark IS NOT NULL;

-- The last fencing token. A cache would let a session give out an old one late.
CREATE SEQUENCE relukko_go.tokens CACHE 1;

-- Marks that were called off, for as long as a late create may come.
CREATE TABLE relukko_go.called_off (
    mark  text        COLLATE "C" PRIMARY KEY,
    until timestamptz NOT NULL
);
CREATE INDEX called_off_until ON relukko_go.called_off (until);

-- Since when the first waiter of a server waits for a name. It is only a hint for the order: what
-- is lost here, as after a crash, is noted again with the waiter's next try.
CREATE UNLOGGED TABLE relukko_go.waiting (
    name   text        COLLATE "C",
    server bigint,
    since  timestamptz NOT NULL,
    until  timestamptz NOT NULL, -- the waiter cannot wait longer
    turn   timestamptz,          -- the name is free and reserved for it until then
    PRIMARY KEY (name, server)
);

-- note_waiting notes that the first waiter of a server waits for the name, and returns since when.
--
-- Two tries of one waiter compute slightly different beginnings. If the order changed with them,
-- two servers could leave the name to each other; so the first note stands. A beginning more than a
-- second later is that of another waiter.
CREATE FUNCTION relukko_go.note_waiting(
    the_name text, the_server bigint, its_since timestamptz, t timestamptz) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    noted relukko_go.waiting;
BEGIN
    SELECT w.* INTO noted FROM relukko_go.waiting w
        WHERE w.name = the_name AND w.server = the_server;
    IF NOT FOUND THEN
        -- a waiter queues for 30 s at most
        INSERT INTO relukko_go.waiting
            VALUES (the_name, the_server, its_since, t + interval '40 seconds', NULL);
        RETURN its_since;
    END IF;
    IF its_since > noted.since + interval '1 second' THEN
        noted.since := its_since;
    ELSIF noted.until > t + interval '30 seconds' THEN
        RETURN noted.since;
    END IF;
    UPDATE relukko_go.waiting w SET since = noted.since, until = t + interval '40 seconds'
        WHERE w.name = the_name AND w.server = the_server;
    RETURN noted.since;
END $$;

-- others_turn returns NULL if the name, which is free, goes to this server, and otherwise how long
-- to leave it to the longest waiter. A create that did not wait comes after all that did.
CREATE FUNCTION relukko_go.others_turn(
    the_name text, the_server bigint, waited interval, t timestamptz) RETURNS interval
LANGUAGE plpgsql AS $$
DECLARE
    mine  timestamptz := t;
    other relukko_go.waiting;
BEGIN
    DELETE FROM relukko_go.waiting w
        WHERE w.name = the_name AND w.server <> the_server AND (w.until <= t OR w.turn <= t);
    IF waited > interval '0' THEN
        mine := relukko_go.note_waiting(the_name, the_server, t - waited, t);
    END IF;
    SELECT w.* INTO other FROM relukko_go.waiting w
        WHERE w.name = the_name AND w.server <> the_server
            AND (w.since, w.server) < (mine, the_server)
        ORDER BY w.since, w.server LIMIT 1;
    IF FOUND THEN
        IF other.turn IS NULL THEN
            other.turn := t + interval '500 milliseconds';
            UPDATE relukko_go.waiting w SET turn = other.turn
                WHERE w.name = the_name AND w.server = other.server;
        END IF;
        RETURN other.turn - t;
    END IF;
    DELETE FROM relukko_go.waiting w WHERE w.name = the_name AND w.server = the_server;
    UPDATE relukko_go.waiting w SET turn = NULL WHERE w.name = the_name AND w.turn IS NOT NULL;
    RETURN NULL;
END $$;

-- next_token returns max(the last token + 1, microseconds since 1970). So tokens go on rising when
-- the schema was dropped, an old backup was restored, or the locks have moved here from another
-- store.
--
-- The sequence has the last token. Its reading and writing are one step under an advisory lock,
-- which is not held until the commit, as a lock on a row would be. All is one expression, so that a
-- time-out cannot come between the lock and its release.
CREATE FUNCTION relukko_go.next_token(t timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    micros bigint := extract(epoch FROM t) * 1000000;
    locked text;
    token  bigint;
    opened boolean;
BEGIN
    SELECT pg_advisory_lock(1919708013, 0)::text,
        setval('relukko_go.tokens', greatest(nextval('relukko_go.tokens'), micros)),
        pg_advisory_unlock(1919708013, 0)
        INTO locked, token, opened;
    RETURN token;
END $$;

-- create_lock makes a lock. The outcome is 0: made; 1: held, by that lock; 2: called off; 3: free,
-- but left for that long to a waiter of another server.
--
-- Creates of one name happen one after the other: each holds the name's advisory lock until it has
-- committed, and takes its token under it. So tokens rise in the order in which the locks come to
-- be. Names with equal hashes wait for each other, which does no harm. CallOff excludes the creates
-- of its mark in the same way; all lock marks before names. The function must be volatile, under
-- READ COMMITTED, so that it sees all that was committed before it got the locks.
CREATE FUNCTION relukko_go.create_lock(
    its_id uuid, its_name text, its_creator text, its_ip text, ttl interval, its_mark text,
    waited interval, the_server bigint,
    OUT outcome integer, OUT leave interval, OUT lock relukko_go.locks)
LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz;
BEGIN
    IF its_mark IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(1919708011, hashtext(its_mark));
    END IF;
    PERFORM pg_advisory_xact_lock(1919708012, hashtext(its_name));
    t := clock_timestamp();
    IF its_mark IS NOT NULL THEN
        PERFORM FROM relukko_go.called_off c WHERE c.mark = its_mark AND c.until > t;
        IF FOUND THEN
            outcome := 2;
            RETURN;
        END IF;
    END IF;
    SELECT l.* INTO lock FROM relukko_go.locks l WHERE l.name = its_name;
    IF FOUND THEN
        IF waited > interval '0' THEN
            PERFORM relukko_go.note_waiting(its_name, the_server, t - waited, t);
        END IF;
        outcome := 1;
        RETURN;
    END IF;
    PERFORM FROM relukko_go.waiting w WHERE w.name = its_name;
    IF FOUND THEN
        leave := relukko_go.others_turn(its_name, the_server, waited, t);
        IF leave IS NOT NULL THEN
            outcome := 3;
            RETURN;
        END IF;
    END IF;
    INSERT INTO relukko_go.locks
        VALUES (its_id, its_name, its_creator, its_ip, t + ttl, t, t, relukko_go.next_token(t),
            its_mark)
        RETURNING * INTO lock;
    outcome := 0;
END $$;

-- find_created returns the lock with that id once the create that was to make it has ended. It
-- locks the row because only a transaction that has written waits for the synchronous replicas;
-- otherwise it could return a lock that they do not have yet.
CREATE FUNCTION relukko_go.find_created(its_id uuid, its_name text) RETURNS SETOF relukko_go.locks
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1919708012, hashtext(its_name));
    RETURN QUERY SELECT l.* FROM relukko_go.locks l WHERE l.id = its_id FOR UPDATE;
END $$;

-- call_off makes create_lock refuse the mark, and deletes the locks that were made with it.
CREATE FUNCTION relukko_go.call_off(its_mark text, keep interval) RETURNS SETOF relukko_go.locks
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1919708011, hashtext(its_mark));
    INSERT INTO relukko_go.called_off AS c VALUES (its_mark, clock_timestamp() + keep)
        ON CONFLICT (mark) DO UPDATE SET until = excluded.until;
    RETURN QUERY DELETE FROM relukko_go.locks l WHERE l.mark = its_mark RETURNING l.*;
END $$;

-- sweep deletes locks whose grace is over, at most so many. It skips locks that another transaction
-- is sweeping or renewing: no lock is swept twice, and no sweep waits.
CREATE FUNCTION relukko_go.sweep(grace interval, at_most integer) RETURNS SETOF relukko_go.locks
LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT l.id FROM relukko_go.locks l WHERE l.expires_at <= t - grace
                ORDER BY l.expires_at LIMIT at_most FOR UPDATE SKIP LOCKED)
        DELETE FROM relukko_go.locks l USING due WHERE l.id = due.id RETURNING l.*;
    WITH due AS MATERIALIZED (
        SELECT c.mark FROM relukko_go.called_off c WHERE c.until <= t
            ORDER BY c.until LIMIT at_most FOR UPDATE SKIP LOCKED)
    DELETE FROM relukko_go.called_off c USING due WHERE c.mark = due.mark;
    WITH due AS MATERIALIZED (
        SELECT w.name, w.server FROM relukko_go.waiting w WHERE w.until <= t
            LIMIT at_most FOR UPDATE SKIP LOCKED)
    DELETE FROM relukko_go.waiting w USING due
        WHERE w.name = due.name AND w.server = due.server;
END $$;
