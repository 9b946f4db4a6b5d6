-- Version 2: leased locks. Programs of version 1 create locks that are not leased, and give leased
-- ones the grace of all others; their renewals are seen by the trigger. So the functions of version
-- 1 stay as they are; those of the same name here have further parameters.

-- The lease that was set last, by creation or renewal; NULL: the lock is not leased. It is the last
-- column, since create_lock of version 1 names none.
ALTER TABLE relukko_go.locks ADD COLUMN lease interval;

-- A renewal by a program of version 1 sets no lease.
CREATE FUNCTION relukko_go.note_lease() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.lease := NEW.expires_at - NEW.updated_at;
    RETURN NEW;
END $$;
CREATE TRIGGER note_lease BEFORE UPDATE ON relukko_go.locks FOR EACH ROW
    WHEN (OLD.lease IS NOT NULL AND NEW.expires_at <> OLD.expires_at
        AND NEW.lease <> NEW.expires_at - NEW.updated_at)
    EXECUTE FUNCTION relukko_go.note_lease();

-- lease_grace returns how long a leased lock is kept after its expiry.
CREATE FUNCTION relukko_go.lease_grace(lease interval) RETURNS interval
LANGUAGE sql IMMUTABLE AS $$
    SELECT least(greatest(lease / 10, interval '1 second'), interval '10 seconds')
$$;

-- lease_stays returns how long a leased lock stays after a step of the clock.
CREATE FUNCTION relukko_go.lease_stays(lease interval) RETURNS interval
LANGUAGE sql IMMUTABLE AS $$ SELECT least(lease, interval '1 minute') $$;

-- create_lock is as in version 1, but for leased locks.
CREATE FUNCTION relukko_go.create_lock(
    its_id uuid, its_name text, its_creator text, its_ip text, ttl interval, its_mark text,
    waited interval, the_server bigint, leased boolean,
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
            its_mark, CASE WHEN leased THEN ttl END)
        RETURNING * INTO lock;
    outcome := 0;
END $$;

-- sweep is as in version 1 for locks that are not leased. Leased ones go after their own grace, if
-- the clock shows at most the latest, and has been steady for as long as the lease.
CREATE FUNCTION relukko_go.sweep(
    grace interval, latest timestamptz, steady interval, at_most integer)
    RETURNS SETOF relukko_go.locks
LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock_timestamp();
    kept interval := CASE WHEN t <= latest THEN steady ELSE interval '0' END;
BEGIN
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT l.id FROM relukko_go.locks l
                WHERE l.expires_at <= t - least(grace, interval '1 second') AND CASE
                    WHEN l.lease IS NULL THEN l.expires_at <= t - grace
                    ELSE l.expires_at + relukko_go.lease_grace(l.lease) <= t
                        AND relukko_go.lease_stays(l.lease) <= kept END
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
