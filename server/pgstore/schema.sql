-- Version 1. All that the program has in the database is in the schema relukko_go. Programs of several versions may be
-- running on it at once, so a later version adds to this and takes nothing away that this version uses.

CREATE TABLE relukko_go.locks (
    id         uuid        PRIMARY KEY,
    name       text        COLLATE "C" NOT NULL CONSTRAINT locks_name UNIQUE,
    creator    text,
    ip         text        NOT NULL,
    -- RFC 3339 has years of four digits
    expires_at timestamptz NOT NULL CONSTRAINT locks_expires_at_in_range
               CHECK (expires_at >= '0001-01-01 00:00:00+00' AND expires_at < '10000-01-01 00:00:00+00'),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    token      bigint      NOT NULL,
    mark       text        COLLATE "C"
);
CREATE INDEX locks_due ON relukko_go.locks (expires_at);
CREATE INDEX locks_mark ON relukko_go.locks (mark) WHERE mark IS NOT NULL;

-- Numbers are drawn one by one: a cache would let a session give out an old one late.
CREATE SEQUENCE relukko_go.tokens CACHE 1;

-- Marks that were called off, for as long as a straggler may come.
CREATE TABLE relukko_go.called_off (
    mark  text        COLLATE "C" PRIMARY KEY,
    until timestamptz NOT NULL
);
CREATE INDEX called_off_until ON relukko_go.called_off (until);

-- For whom servers have a line: since when the head of a server's line waits for the name. A hint for the order, no
-- more: who is lost here, as after a crash, is noted again with his next try.
CREATE UNLOGGED TABLE relukko_go.waiting (
    name   text        COLLATE "C",
    server bigint,
    since  timestamptz NOT NULL,
    until  timestamptz NOT NULL, -- no longer can he be waiting
    turn   timestamptz,          -- the name is free and his to take until then
    PRIMARY KEY (name, server)
);

-- note_waiting notes that the head of a server's line waits for the name, and answers since when by the note.
--
-- Two tries by the same waiter reckon out slightly different beginnings, and an order that wavers could
-- have two servers leave the name to each other; so the first one stands. A second later, it is another waiter.
CREATE FUNCTION relukko_go.note_waiting(the_name text, the_server bigint, its_since timestamptz, t timestamptz) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    noted relukko_go.waiting;
BEGIN
    SELECT w.* INTO noted FROM relukko_go.waiting w WHERE w.name = the_name AND w.server = the_server;
    IF NOT FOUND THEN
        -- a waiter queues for 30 s at most
        INSERT INTO relukko_go.waiting VALUES (the_name, the_server, its_since, t + interval '40 seconds', NULL);
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

-- others_turn answers NULL when the name, which is free, goes to this server, and else how long to leave it to the
-- one who has waited longest. A create that did not wait is behind all that do.
CREATE FUNCTION relukko_go.others_turn(the_name text, the_server bigint, waited interval, t timestamptz) RETURNS interval
LANGUAGE plpgsql AS $$
DECLARE
    mine  timestamptz := t;
    other relukko_go.waiting;
BEGIN
    DELETE FROM relukko_go.waiting w WHERE w.name = the_name AND w.server <> the_server AND (w.until <= t OR w.turn <= t);
    IF waited > interval '0' THEN
        mine := relukko_go.note_waiting(the_name, the_server, t - waited, t);
    END IF;
    SELECT w.* INTO other FROM relukko_go.waiting w
        WHERE w.name = the_name AND w.server <> the_server AND (w.since, w.server) < (mine, the_server)
        ORDER BY w.since, w.server LIMIT 1;
    IF FOUND THEN
        IF other.turn IS NULL THEN
            other.turn := t + interval '500 milliseconds';
            UPDATE relukko_go.waiting w SET turn = other.turn WHERE w.name = the_name AND w.server = other.server;
        END IF;
        RETURN other.turn - t;
    END IF;
    DELETE FROM relukko_go.waiting w WHERE w.name = the_name AND w.server = the_server;
    UPDATE relukko_go.waiting w SET turn = NULL WHERE w.name = the_name AND w.turn IS NOT NULL;
    RETURN NULL;
END $$;

-- create_lock makes a lock. The outcome is 0: made; 1: held, by that lock; 2: called off; 3: free, but left to
-- somebody who waits on another server for as long as it says.
--
-- Creates of one name happen one after the other: each holds the name's advisory lock until it has committed, and
-- draws its token under it. So tokens rise in the order in which the locks come to be, which a sequence alone does not
-- give: a number drawn before the unique index has decided can come in late. Names whose hashes are equal
-- wait for each other, no more. CallOff excludes the creates of its mark in the same way; marks are locked before names, by all.
-- The function must be volatile, under READ COMMITTED: then what follows the locks sees all that was committed
-- before they were had.
CREATE FUNCTION relukko_go.create_lock(
    its_id uuid, its_name text, its_creator text, its_ip text, ttl interval, its_mark text, waited interval, the_server bigint,
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
        VALUES (its_id, its_name, its_creator, its_ip, t + ttl, t, t, nextval('relukko_go.tokens'), its_mark)
        RETURNING * INTO lock;
    outcome := 0;
END $$;

-- find_created answers the lock with that id once the create that was to make it is no longer under way. The row is
-- locked not for its own sake: a transaction that has written waits for the synchronous replicas, one that has only read does
-- not, and would tell of a lock that they may not have yet.
CREATE FUNCTION relukko_go.find_created(its_id uuid, its_name text) RETURNS SETOF relukko_go.locks
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1919708012, hashtext(its_name));
    RETURN QUERY SELECT l.* FROM relukko_go.locks l WHERE l.id = its_id FOR UPDATE;
END $$;

-- call_off has create_lock refuse the mark from now on, and deletes the locks that were made with it.
CREATE FUNCTION relukko_go.call_off(its_mark text, keep interval) RETURNS SETOF relukko_go.locks
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1919708011, hashtext(its_mark));
    INSERT INTO relukko_go.called_off AS c VALUES (its_mark, clock_timestamp() + keep)
        ON CONFLICT (mark) DO UPDATE SET until = excluded.until;
    RETURN QUERY DELETE FROM relukko_go.locks l WHERE l.mark = its_mark RETURNING l.*;
END $$;

-- sweep deletes locks whose grace is over, at most so many. What another one is sweeping or renewing at this instant
-- is left to him: no lock is swept twice, and nobody waits.
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
        SELECT c.mark FROM relukko_go.called_off c WHERE c.until <= t ORDER BY c.until LIMIT at_most FOR UPDATE SKIP LOCKED)
    DELETE FROM relukko_go.called_off c USING due WHERE c.mark = due.mark;
    WITH due AS MATERIALIZED (
        SELECT w.name, w.server FROM relukko_go.waiting w WHERE w.until <= t LIMIT at_most FOR UPDATE SKIP LOCKED)
    DELETE FROM relukko_go.waiting w USING due WHERE w.name = due.name AND w.server = due.server;
END $$;
