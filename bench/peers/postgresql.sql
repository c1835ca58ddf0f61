-- The chain and its swipe in PostgreSQL. What stands after an at sign is filled in by swipe.py.
-- A key is (hi, lo, business date): hi below 0 is minus the terminal and lo its trace, else they are a 128-bit id.
-- Accounts of the issuer and the points pool are kept a share in each store's row: one row for all of them would be
-- locked by every swipe until its commit is durable.

CREATE TABLE terminals (number int PRIMARY KEY, store int NOT NULL);

CREATE TABLE stores (
    number int NOT NULL,
    clearing bigint NOT NULL DEFAULT 0,
    collection bigint NOT NULL DEFAULT 0,
    issuer_bonus bigint NOT NULL DEFAULT 0,
    issuer_points bigint NOT NULL DEFAULT 0,
    points_pool bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

CREATE TABLE cards (
    number bigint NOT NULL,
    principal bigint NOT NULL,
    bonus bigint NOT NULL,
    points bigint NOT NULL,
    expires int NOT NULL,
    status smallint NOT NULL,
    product smallint NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE journal (
    sequence bigint NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 100),
    hi bigint NOT NULL,
    lo bigint NOT NULL,
    card bigint NOT NULL,
    amount bigint NOT NULL,
    business_date int NOT NULL,
    local_time int NOT NULL,
    terminal int NOT NULL,
    kind smallint NOT NULL,
    code smallint NOT NULL,
    principal bigint,
    bonus bigint,
    points_spent bigint,
    points_earned bigint,
    clearing bigint,
    collection bigint,
    issuer_bonus bigint,
    issuer_points bigint,
    points_pool bigint,
    PRIMARY KEY (hi, lo, business_date)
);

-- Loaded in transactions of their own, after the tables exist: so that their pages are in the log, and the first
-- change of a page in a run does not have to write the whole of it.
INSERT INTO terminals SELECT n, n FROM generate_series(1, @stores) AS n;
INSERT INTO stores (number, collection, issuer_bonus)
SELECT n, -held * @opening, -held * @opening_bonus
FROM (SELECT n, (@cards - n + @stores) / @stores AS held FROM generate_series(1, @stores) AS n) AS opened;
INSERT INTO cards
SELECT (i * 61803398 % 100000000 * 100000000 + i * 87498949) % 10000000000000000, @opening, @opening_bonus, 0, 0, 1, 1
FROM generate_series(0, @cards::bigint - 1) AS i;
ALTER TABLE stores ADD PRIMARY KEY (number);
ALTER TABLE cards ADD PRIMARY KEY (number);

-- Kinds: 2 top-up, 3 purchase, 6 balance. The answer: response code and the card's purses afterwards.
CREATE FUNCTION swipe(
    asked smallint, at int, number_ bigint, sum_ bigint, key_hi bigint, key_lo bigint, day int, time_ int,
    OUT answer smallint, OUT principal_ bigint, OUT bonus_ bigint, OUT points_ bigint
) LANGUAGE plpgsql AS $$
DECLARE
    first record;
    store_ int;
    expires_ int;
    status_ smallint;
    due bigint;
    rest bigint;
    offset_ bigint := 0;
    spent bigint := 0;
    from_bonus bigint;
    earned bigint;
    gift bigint := 0;
BEGIN
    IF asked <> 6 THEN
        IF day < @day - 6 OR day > @day THEN
            answer := 12;
            RETURN;
        END IF;
        SELECT kind, terminal, card, amount, code INTO first
        FROM journal WHERE hi = key_hi AND lo = key_lo AND business_date = day;
        IF FOUND THEN
            answer := CASE WHEN (first.kind, first.terminal, first.card, first.amount) = (asked, at, number_, sum_)
                THEN first.code ELSE 94 END;
            RETURN;
        END IF;
    END IF;
    SELECT store INTO store_ FROM terminals WHERE number = at;
    IF NOT FOUND THEN
        answer := 58;
        RETURN;
    END IF;
    IF asked = 6 THEN
        SELECT principal, bonus, points INTO principal_, bonus_, points_ FROM cards WHERE number = number_;
        answer := CASE WHEN FOUND THEN 0 ELSE 14 END;
        RETURN;
    END IF;

    SELECT principal, bonus, points, expires, status INTO principal_, bonus_, points_, expires_, status_
    FROM cards WHERE number = number_ FOR NO KEY UPDATE;
    answer := CASE
        WHEN NOT FOUND THEN 14
        WHEN status_ <> 1 THEN 62
        WHEN expires_ <> 0 AND expires_ < @day THEN 54
        WHEN sum_ < 1 OR sum_ > 100000000000000 THEN 13
        ELSE 0 END;

    IF answer = 0 AND asked = 2 THEN
        IF sum_ >= @gift_from THEN
            gift := sum_ * @gift_n / @gift_d;
        END IF;
        IF principal_ + bonus_ + sum_ + gift > @balance_max THEN
            answer := 61;
        ELSE
            principal_ := principal_ + sum_;
            bonus_ := bonus_ + gift;
            UPDATE cards SET principal = principal_, bonus = bonus_ WHERE number = number_;
            UPDATE stores SET collection = collection - sum_, issuer_bonus = issuer_bonus - gift
            WHERE number = store_;
            INSERT INTO journal (hi, lo, card, amount, business_date, local_time, terminal, kind, code,
                principal, bonus, collection, issuer_bonus)
            VALUES (key_hi, key_lo, number_, sum_, day, time_, at, 2, 0, sum_, gift, -sum_, -gift);
            RETURN;
        END IF;
    ELSIF answer = 0 THEN
        due := sum_ - sum_ * @discount_n / @discount_d;
        IF points_ >= @points_min THEN
            offset_ := least(due * @offset_n / @offset_d, points_ * @price_n / @price_d);
            spent := (offset_ * @price_d + @price_n - 1) / @price_n;
        END IF;
        rest := due - offset_;
        from_bonus := least(rest, due * @bonus_n / @bonus_d, bonus_);
        IF rest - from_bonus > principal_ THEN
            answer := 51;
        ELSE
            earned := rest * @accrual_n / @accrual_d;
            principal_ := principal_ - (rest - from_bonus);
            bonus_ := bonus_ - from_bonus;
            points_ := points_ - spent + earned;
            UPDATE cards SET principal = principal_, bonus = bonus_, points = points_ WHERE number = number_;
            UPDATE stores SET clearing = clearing + due, issuer_points = issuer_points - offset_,
                points_pool = points_pool + spent - earned
            WHERE number = store_;
            INSERT INTO journal (hi, lo, card, amount, business_date, local_time, terminal, kind, code,
                principal, bonus, points_spent, points_earned, clearing, issuer_points, points_pool)
            VALUES (key_hi, key_lo, number_, sum_, day, time_, at, 3, 0,
                from_bonus - rest, -from_bonus, -spent, earned, due, -offset_, spent - earned);
            RETURN;
        END IF;
    END IF;
    -- A refusal keeps its answer and posts nothing.
    INSERT INTO journal (hi, lo, card, amount, business_date, local_time, terminal, kind, code)
    VALUES (key_hi, key_lo, number_, sum_, day, time_, at, asked, answer);
END $$;

-- A batch: the codes of its swipes, one after the other, in one transaction.
CREATE FUNCTION swipes(
    kinds smallint[], terminals_ int[], numbers bigint[], sums bigint[], his bigint[], los bigint[], times int[], day int
) RETURNS smallint[] LANGUAGE plpgsql AS $$
DECLARE
    answers smallint[] := kinds;
BEGIN
    FOR i IN 1 .. array_length(kinds, 1) LOOP
        answers[i] := (swipe(kinds[i], terminals_[i], numbers[i], sums[i], his[i], los[i], day, times[i])).answer;
    END LOOP;
    RETURN answers;
END $$;
