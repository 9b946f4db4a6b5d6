-- Version 3: owners, claims, marks that belong to their owners, and a history. Programs of versions
-- 1 and 2 go on: their functions call those of this version, and what they do belongs to "default".
-- Only a create or call_off of theirs that is under way during the migration fails: the one because
-- it sets no owner, the other because it returns rows as they were.

ALTER TABLE relukko_go.locks ADD COLUMN owner text COLLATE "C" NOT NULL DEFAULT 'default';
ALTER TABLE relukko_go.locks ALTER COLUMN owner DROP DEFAULT;

-- How long the request has waited for the lock.
ALTER TABLE relukko_go.locks ADD COLUMN waited interval NOT NULL DEFAULT '0';

-- The locks that have ended, as they were. The rows are counted by their numbers, which rise. One
-- index, at whose end all rows are added, keeps the end of a lock cheap; a search for a name reads
-- all rows of the time.
CREATE TABLE relukko_go.history (
    n          bigint      GENERATED ALWAYS AS IDENTITY,
    id         uuid        NOT NULL,
    name       text        COLLATE "C" NOT NULL,
    creator    text,
    ip         text        NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    token      bigint      NOT NULL,
    owner      text        COLLATE "C" NOT NULL,
    waited     interval    NOT NULL,
    ended_at   timestamptz NOT NULL,
    how        text        NOT NULL,
    by_key     text        NOT NULL, -- the name of the key; '': it expired
    reason     text        NOT NULL
);
CREATE INDEX history_ended ON relukko_go.history (ended_at, n);

-- Marks that were claimed or cancelled, for as long as a late create may come.
CREATE TABLE relukko_go.marks (
    owner     text        COLLATE "C",
    mark      text        COLLATE "C",
    claim     bigint      NOT NULL, -- the latest one: creates with an older claim are refused
    cancelled boolean     NOT NULL, -- all creates are refused
    until     timestamptz NOT NULL,
    PRIMARY KEY (owner, mark)
);
CREATE INDEX marks_until ON relukko_go.marks (until);
CREATE INDEX marks_cancelled ON relukko_go.marks (owner, until) WHERE cancelled;

-- Claims. They rise also for a mark that was forgotten in between.
CREATE SEQUENCE relukko_go.claims CACHE 1;

-- The waiters of each server, in JSON, for the lists of the others.
CREATE UNLOGGED TABLE relukko_go.board (
    server  bigint      PRIMARY KEY,
    waiters text        NOT NULL,
    heard   timestamptz NOT NULL -- when the server was last heard
);

-- What programs of versions 1 and 2 call off is cancelled.
CREATE FUNCTION relukko_go.note_cancelled() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO relukko_go.marks VALUES ('default', NEW.mark, 0, true, NEW.until)
        ON CONFLICT (owner, mark) DO UPDATE SET cancelled = true, until = excluded.until;
    RETURN NULL;
END $$;
CREATE TRIGGER note_cancelled BEFORE INSERT ON relukko_go.called_off FOR EACH ROW
    EXECUTE FUNCTION relukko_go.note_cancelled();
INSERT INTO relukko_go.marks SELECT 'default', mark, 0, true, until FROM relukko_go.called_off;
DELETE FROM relukko_go.called_off;

-- note_waiting is as in version 1, but a beginning more than a second earlier is that of another
-- waiter, too: one with a higher priority.
CREATE OR REPLACE FUNCTION relukko_go.note_waiting(
    the_name text, the_server bigint, its_since timestamptz, t timestamptz) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    noted relukko_go.waiting;
BEGIN
    SELECT w.* INTO noted FROM relukko_go.waiting w
        WHERE w.name = the_name AND w.server = the_server;
    IF NOT FOUND THEN
        -- its server renews the note while it waits
        INSERT INTO relukko_go.waiting
            VALUES (the_name, the_server, its_since, t + interval '40 seconds', NULL);
        RETURN its_since;
    END IF;
    IF its_since NOT BETWEEN noted.since - interval '1 second'
            AND noted.since + interval '1 second' THEN
        noted.since := its_since;
    ELSIF noted.until > t + interval '30 seconds' THEN
        RETURN noted.since;
    END IF;
    UPDATE relukko_go.waiting w SET since = noted.since, until = t + interval '40 seconds'
        WHERE w.name = the_name AND w.server = the_server;
    RETURN noted.since;
END $$;

-- others_turn is as in version 1, but one that waits with a low priority has a beginning in the
-- future, so that waited is negative. Zero: the create did not wait, and comes as of now.
CREATE OR REPLACE FUNCTION relukko_go.others_turn(
    the_name text, the_server bigint, waited interval, t timestamptz) RETURNS interval
LANGUAGE plpgsql AS $$
DECLARE
    mine  timestamptz := t;
    other relukko_go.waiting;
BEGIN
    DELETE FROM relukko_go.waiting w
        WHERE w.name = the_name AND w.server <> the_server AND (w.until <= t OR w.turn <= t);
    IF waited <> interval '0' THEN
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

-- note_ended writes the history of each lock that is deleted, whatever deletes it. A transaction
-- that deletes one by its id sets relukko_go.ending: how, the name of the key, and the reason, one
-- a line; or '-', if no history is kept. Programs of versions 1 and 2 do not: what they delete is
-- released by "default". Sweeps and cancels are recognised.
CREATE FUNCTION relukko_go.note_ended() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    t      timestamptz := clock_timestamp();
    ending text := current_setting('relukko_go.ending', true);
    how    text := 'released';
    by_key text := 'default';
    reason text := '';
BEGIN
    IF ending = '-' THEN
        RETURN NULL;
    ELSIF ending <> '' THEN
        how := split_part(ending, E'\n', 1);
        by_key := split_part(ending, E'\n', 2);
        reason := substr(ending, length(how) + length(by_key) + 3);
    ELSIF EXISTS (SELECT FROM relukko_go.marks m WHERE m.owner = OLD.owner AND m.mark = OLD.mark
            AND m.cancelled AND m.until > t) THEN
        how := 'cancelled';
        by_key := OLD.owner;
    ELSIF OLD.expires_at <= t THEN
        how := 'expired';
        by_key := '';
    END IF;
    IF how = 'released' AND by_key <> OLD.owner THEN
        how := 'broken';
    END IF;
    INSERT INTO relukko_go.history (id, name, creator, ip, expires_at, created_at, updated_at,
            token, owner, waited, ended_at, how, by_key, reason)
        VALUES (OLD.id, OLD.name, OLD.creator, OLD.ip, OLD.expires_at, OLD.created_at,
            OLD.updated_at, OLD.token, OLD.owner, OLD.waited, t, how, by_key, reason);
    RETURN NULL;
END $$;
CREATE TRIGGER note_ended AFTER DELETE ON relukko_go.locks FOR EACH ROW
    EXECUTE FUNCTION relukko_go.note_ended();

-- prune deletes rows of the history that are older than the age, or more than so many, the oldest
-- first and at most so many of them. It returns how many it has deleted. It skips rows that another
-- transaction is deleting.
CREATE FUNCTION relukko_go.prune(age interval, keep bigint, at_most integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    t       timestamptz := clock_timestamp() - age;
    first   bigint;
    last    bigint;
    oldest  timestamptz;
    deleted integer;
BEGIN
    SELECT h.n, h.ended_at INTO first, oldest FROM relukko_go.history h
        ORDER BY h.ended_at, h.n LIMIT 1;
    SELECT h.n INTO last FROM relukko_go.history h ORDER BY h.ended_at DESC, h.n DESC LIMIT 1;
    IF last - first >= keep THEN
        SELECT greatest(t, max(due.ended_at)) INTO t FROM (
            SELECT h.ended_at FROM relukko_go.history h ORDER BY h.ended_at, h.n
                LIMIT least(last - first + 1 - keep, at_most)) due;
    END IF;
    IF oldest IS NULL OR oldest > t THEN
        RETURN 0;
    END IF;
    WITH due AS MATERIALIZED (
        SELECT h.ctid AS place FROM relukko_go.history h WHERE h.ended_at <= t
            ORDER BY h.ended_at, h.n LIMIT at_most FOR UPDATE SKIP LOCKED)
    DELETE FROM relukko_go.history h USING due WHERE h.ctid = due.place;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

-- create_lock is as in version 2, but for locks with owners. The outcome 4 is: superseded by a
-- later claim of the mark. Claim excludes the creates of its mark as cancel does, so a create that
-- began before it has committed, and one that gets the locks after it sees the claim.
CREATE FUNCTION relukko_go.create_lock(
    its_id uuid, its_name text, its_creator text, its_ip text, ttl interval, its_mark text,
    waited interval, the_server bigint, leased boolean, its_owner text, its_claim bigint,
    queued interval, OUT outcome integer, OUT leave interval, OUT lock relukko_go.locks)
LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz;
    m relukko_go.marks;
BEGIN
    IF its_mark IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(1919708011, hashtext(its_mark));
    END IF;
    PERFORM pg_advisory_xact_lock(1919708012, hashtext(its_name));
    t := clock_timestamp();
    IF its_mark IS NOT NULL THEN
        SELECT * INTO m FROM relukko_go.marks
            WHERE marks.owner = its_owner AND marks.mark = its_mark;
        outcome := CASE WHEN m.cancelled AND m.until > t THEN 2
            WHEN m.claim > its_claim THEN 4 END;
        IF outcome IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    SELECT l.* INTO lock FROM relukko_go.locks l WHERE l.name = its_name;
    IF FOUND THEN
        IF waited <> interval '0' THEN
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
            its_mark, CASE WHEN leased THEN ttl END, its_owner, queued)
        RETURNING * INTO lock;
    outcome := 0;
END $$;

-- Programs of versions 1 and 2 know no outcome 4: to them a claimed mark is one that was called
-- off.
CREATE OR REPLACE FUNCTION relukko_go.create_lock(
    its_id uuid, its_name text, its_creator text, its_ip text, ttl interval, its_mark text,
    waited interval, the_server bigint, leased boolean,
    OUT outcome integer, OUT leave interval, OUT lock relukko_go.locks)
LANGUAGE sql AS $$
    SELECT CASE c.outcome WHEN 4 THEN 2 ELSE c.outcome END, c.leave, c.lock
        FROM relukko_go.create_lock($1, $2, $3, $4, $5, $6, $7, $8, $9, 'default', 0,
            interval '0') c
$$;
CREATE OR REPLACE FUNCTION relukko_go.create_lock(
    its_id uuid, its_name text, its_creator text, its_ip text, ttl interval, its_mark text,
    waited interval, the_server bigint,
    OUT outcome integer, OUT leave interval, OUT lock relukko_go.locks)
LANGUAGE sql AS $$
    SELECT c.outcome, c.leave, c.lock
        FROM relukko_go.create_lock($1, $2, $3, $4, $5, $6, $7, $8, false) c
$$;

-- claim_mark claims the mark. It returns a row with the outcome, which is 0 or, for a cancelled
-- mark, 2, and with the claim; then a row for each lock of the mark.
CREATE FUNCTION relukko_go.claim_mark(its_owner text, its_mark text, keep interval)
    RETURNS TABLE (outcome integer, new_claim bigint, lock relukko_go.locks)
LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(1919708011, hashtext(its_mark));
    t := clock_timestamp();
    outcome := 2;
    PERFORM FROM relukko_go.marks m
        WHERE m.owner = its_owner AND m.mark = its_mark AND m.cancelled AND m.until > t;
    IF NOT FOUND THEN
        outcome := 0;
        INSERT INTO relukko_go.marks AS m
            VALUES (its_owner, its_mark, nextval('relukko_go.claims'), false, t + keep)
            ON CONFLICT ON CONSTRAINT marks_pkey DO UPDATE
                SET claim = excluded.claim, cancelled = false, until = excluded.until
            RETURNING m.claim INTO new_claim;
    END IF;
    RETURN NEXT;
    RETURN QUERY SELECT 0, 0::bigint, l FROM relukko_go.locks l
        WHERE outcome = 0 AND l.mark = its_mark AND l.owner = its_owner;
END $$;

-- cancel_mark cancels the mark, and deletes the locks that were made with it. It returns as
-- claim_mark does; the outcome 5 is: the owner has as many cancelled marks as allowed.
CREATE FUNCTION relukko_go.cancel_mark(
    its_owner text, its_mark text, keep interval, allowed integer)
    RETURNS TABLE (outcome integer, new_claim bigint, lock relukko_go.locks)
LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(1919708011, hashtext(its_mark));
    t := clock_timestamp();
    outcome := 0;
    PERFORM FROM relukko_go.marks m
        WHERE m.owner = its_owner AND m.mark = its_mark AND m.cancelled AND m.until > t;
    IF NOT FOUND THEN
        PERFORM FROM relukko_go.marks m WHERE m.owner = its_owner AND m.cancelled AND m.until > t
            OFFSET allowed - 1 LIMIT 1;
        outcome := CASE WHEN FOUND THEN 5 ELSE 0 END;
    END IF;
    RETURN NEXT;
    IF outcome = 0 THEN
        INSERT INTO relukko_go.marks AS m VALUES (its_owner, its_mark, 0, true, t + keep)
            ON CONFLICT ON CONSTRAINT marks_pkey DO UPDATE
                SET cancelled = true, until = excluded.until;
        RETURN QUERY DELETE FROM relukko_go.locks l
            WHERE l.mark = its_mark AND l.owner = its_owner RETURNING 0, 0::bigint, l;
    END IF;
END $$;

-- forget deletes marks whose time has run out, at most so many, and what silent servers have
-- published.
CREATE FUNCTION relukko_go.forget(at_most integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock_timestamp();
BEGIN
    WITH due AS MATERIALIZED (
        SELECT m.owner, m.mark FROM relukko_go.marks m WHERE m.until <= t
            ORDER BY m.until LIMIT at_most FOR UPDATE SKIP LOCKED)
    DELETE FROM relukko_go.marks m USING due WHERE m.owner = due.owner AND m.mark = due.mark;
    WITH silent AS MATERIALIZED (
        SELECT b.server FROM relukko_go.board b WHERE b.heard <= t - interval '10 seconds'
            FOR UPDATE SKIP LOCKED)
    DELETE FROM relukko_go.board b USING silent WHERE b.server = silent.server;
END $$;

-- A role that may use the schema without owning it may use what is new, too.
DO $$
DECLARE
    role regrole;
BEGIN
    FOR role IN
        SELECT DISTINCT a.grantee::regrole FROM pg_class c, aclexplode(c.relacl) a
            WHERE c.oid = 'relukko_go.called_off'::regclass AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON relukko_go.marks, relukko_go.board, '
            'relukko_go.history TO ' || role;
        EXECUTE 'GRANT USAGE, UPDATE ON SEQUENCE relukko_go.claims TO ' || role;
    END LOOP;
END $$;
