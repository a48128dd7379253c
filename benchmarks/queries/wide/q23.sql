SELECT phrase, min(url), min(title), count(*) AS n, count(DISTINCT user_id)
FROM visits WHERE title LIKE '%Page 1%' AND url NOT LIKE '%.news.%' AND phrase <> '' GROUP BY phrase ORDER BY n DESC, phrase LIMIT 10;
