SELECT user_id, extract(minute FROM at) AS minute, phrase, count(*) AS n
FROM visits GROUP BY user_id, minute, phrase ORDER BY n DESC, user_id, minute, phrase LIMIT 10;
