-- The books, counted: journal rows, sums of money and points over all accounts, purses below zero, and the
-- accounts that are not what they opened with plus their legs. The text is both PostgreSQL's and SQLite's.
WITH
legs AS (
    SELECT card, sum(coalesce(principal, 0)) AS principal, sum(coalesce(bonus, 0)) AS bonus,
        sum(coalesce(points_spent, 0) + coalesce(points_earned, 0)) AS points
    FROM journal GROUP BY card
),
positions AS (
    SELECT store, sum(coalesce(clearing, 0)) AS clearing, sum(coalesce(collection, 0)) AS collection,
        sum(coalesce(journal.issuer_bonus, 0)) AS issuer_bonus, sum(coalesce(issuer_points, 0)) AS issuer_points,
        sum(coalesce(points_pool, 0)) AS points_pool
    FROM journal JOIN terminals ON terminals.number = journal.terminal GROUP BY store
)
SELECT
    (SELECT count(*) FROM journal),
    (SELECT sum(principal + bonus) FROM cards)
        + (SELECT sum(clearing + collection + issuer_bonus + issuer_points) FROM stores),
    (SELECT sum(points) FROM cards) + (SELECT sum(points_pool) FROM stores),
    (SELECT count(*) FROM cards WHERE principal < 0 OR bonus < 0 OR points < 0),
    (SELECT count(*) FROM cards LEFT JOIN legs ON legs.card = cards.number
        WHERE cards.principal <> @opening + coalesce(legs.principal, 0)
            OR cards.bonus <> @opening_bonus + coalesce(legs.bonus, 0)
            OR cards.points <> coalesce(legs.points, 0)),
    (SELECT count(*) FROM stores LEFT JOIN positions ON positions.store = stores.number
        WHERE stores.clearing <> coalesce(positions.clearing, 0)
            OR stores.issuer_points <> coalesce(positions.issuer_points, 0)
            OR stores.points_pool <> coalesce(positions.points_pool, 0)
            OR stores.collection
                <> coalesce(positions.collection, 0) - (@cards - stores.number + @stores) / @stores * @opening
            OR stores.issuer_bonus
                <> coalesce(positions.issuer_bonus, 0) - (@cards - stores.number + @stores) / @stores * @opening_bonus)
