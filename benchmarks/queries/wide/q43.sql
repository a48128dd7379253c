SELECT date_trunc('minute', at) AS minute, count(*) AS views FROM visits
WHERE site_id = 0 AND day BETWEEN DATE '2024-07-14' AND DATE '2024-07-15' AND refreshed = 0
GROUP BY minute ORDER BY minute LIMIT 10 OFFSET 1000;
